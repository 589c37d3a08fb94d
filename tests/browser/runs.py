"""What the tests log, for the pages to show; run by a client's Python."""

import math
import struct
import zlib
from pathlib import Path

import mlflow


def png(width: int, height: int) -> bytes:
    """A picture of colours that run into each other."""
    rows = b"".join(
        b"\0" + b"".join(bytes((4 * x, 5 * y, 128)) for x in range(width)) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


mlflow.set_experiment("looked at")
with mlflow.start_run(run_name="a run") as run:
    mlflow.log_params({"alpha": 0.5, "epochs": 20})
    for step in range(20):
        mlflow.log_metric("loss", math.exp(-step / 5), step=step)
    mlflow.log_text("kept, and shown", "note.txt")
    Path("square.png").write_bytes(png(64, 48))
    mlflow.log_artifact("square.png")
print(run.info.experiment_id, run.info.run_id)
