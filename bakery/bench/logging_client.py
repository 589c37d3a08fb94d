"""Logs a metric every 100 ms until its input ends; runs with the MLflow client's Python."""

import json
import sys
import threading
import time

import mlflow


def main() -> None:
    """Log, then say how many there were, how many are missing, and what the longest call took."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    longest, count = 0.0, 0
    with mlflow.start_run() as run:
        while not ended.is_set():
            began = time.monotonic()
            mlflow.log_metric("tick", count, step=count)
            if count == 0:
                sys.stdout.write("begun\n")
                sys.stdout.flush()
            else:
                longest = max(longest, time.monotonic() - began)
            count += 1
            time.sleep(max(0.0, began + 0.1 - time.monotonic()))
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "tick")
    missing = len(set(range(count)) - {int(one.value) for one in history})
    sys.stdout.write(json.dumps({"logged": count, "missing": missing, "longest": longest}) + "\n")


if __name__ == "__main__":
    main()
