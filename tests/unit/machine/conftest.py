"""Makes the machine's own modules importable here, without leaving byte code in their folder."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

sys.dont_write_bytecode = True
for folder in ("packer/files/usr/lib/mlflow-bakery", "compose/mlflow"):
    sys.path.insert(0, str(ROOT / folder))
