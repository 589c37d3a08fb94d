"""Runs a project with MLflow's own means; run by the Python of MLflow's environment.

Reads what to run as JSON from standard input; where the server is, MLflow finds in the environment.
Writes the run that it made as JSON into the file that its argument names.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.projects import docker
from mlflow.projects.backend import local


def main(result: Path) -> int:
    """Run the project; the exit code."""
    order = json.load(sys.stdin)
    create = local.get_or_create_run

    def create_and_tell(*given: Any) -> Any:
        run = create(*given)
        found = {"run": run.info.run_id, "experiment": run.info.experiment_id}
        result.write_text(json.dumps(found), encoding="utf-8")
        return run

    local.get_or_create_run = create_and_tell
    if order["image"]:
        use_image(order["image"])
        hand_over(
            f"{os.environ['MLFLOW_TRACKING_USERNAME']}\n{os.environ['MLFLOW_TRACKING_PASSWORD']}\n"
        )
    try:
        mlflow.projects.run(
            order["project"],
            entry_point=order["entry_point"],
            parameters=order["parameters"],
            experiment_name=order["experiment"],
            docker_args=order["docker_args"],
            env_manager="local",
            build_image=True,
        )
    except MlflowException as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


def use_image(image: str) -> None:
    """Let MLflow add the project's files to this image and not to the project's own one.

    It is the same, with what leads to the server in it.
    """
    build = docker.build_docker_image

    def build_from(**given: Any) -> Any:
        return build(**{**given, "base_image": image})

    docker.build_docker_image = build_from


def hand_over(text: str) -> None:
    """Make a text the standard input of what is started from here."""
    read, write = os.pipe()
    os.dup2(read, 0)
    os.close(read)

    def feed() -> None:
        with os.fdopen(write, "w", encoding="utf-8") as pipe:
            pipe.write(text)

    # Fits into the pipe; a thread all the same, so that nothing depends on its size.
    threading.Thread(target=feed, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
