"""For a process under libfaketime whose monotonic clock is the real one, as it is after a jump.

libfaketime 0.9.10 spoils sleeping until a time of that clock, which is how Python sleeps.
"""

import select
import time
from typing import Any


def _sleep(seconds: Any) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep
