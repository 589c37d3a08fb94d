"""Logs a metric, then waits until somebody sets the tag "go on" of its run."""

import sys
import time

import mlflow

with mlflow.start_run() as run:
    mlflow.log_metric("seen", 1)
    print(f"waiting, marked {sys.argv[-1]}", flush=True)
    deadline = time.monotonic() + 120
    while "go on" not in mlflow.get_run(run.info.run_id).data.tags:
        if time.monotonic() > deadline:
            sys.exit("nobody said to go on")
        time.sleep(0.3)
