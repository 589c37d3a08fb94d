"""A round trip with the real MLflow client, run by the Python of the client's own environment.

Reads the access to the artifact store as JSON from standard input; where the server is, it finds
in the environment as every client does. Prints one JSON object per finished stage.
"""

import contextlib
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import numpy as np  # type: ignore[import-not-found]
from azure.storage.blob import ContainerClient
from mlflow.entities import Metric, Param, Run
from mlflow.models import infer_signature
from mlflow.store.artifact.artifact_repository_registry import (
    get_artifact_repository,
)

EXPERIMENT = "bakery-check"
_METRICS = 20
_CONTENT = secrets.token_bytes(256 * 1024)
_FILE = "random.bin"
_NUMBERS = np.array([1.0, 2.0])


class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The smallest model with a result that can be checked."""

    def predict(self, context: object, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Return the input, doubled."""
        return model_input * 2


def main() -> None:
    """Do the round trip and remove what it made, also after a failure."""
    blob = json.load(sys.stdin)
    # MLflow prints links to its pages; standard output is for our stages.
    sys.stdout = sys.stderr
    client = mlflow.MlflowClient()
    with stage("client opens its experiment") as said:
        experiment = open_experiment(client)
        said.append(f"{EXPERIMENT!r} is experiment {experiment}")
    try:
        with stage("client logs a run") as said:
            run, model = log_run(client, experiment)
            said.append(f"run {run.info.run_id}: parameters, {_METRICS} metrics, artifact, model")
        try:
            with stage("client reads the run back") as said:
                said.append(read_back(client, run))
            with stage("artifact found in Blob") as said:
                said.append(find_in_blob(blob, run))
        finally:
            with stage("client removes what it made") as said:
                said.append(remove(client, run, model))
    finally:
        # With the experiment its runs go into the bin, where the next check finds it again.
        client.delete_experiment(experiment)


@contextlib.contextmanager
def stage(name: str) -> Iterator[list[str]]:
    """Print how a stage went, with what it said about itself or why it failed."""
    started = time.monotonic()
    said: list[str] = []
    ok = False
    try:
        yield said
        ok = True
    except Exception as failure:
        said = [f"{type(failure).__name__}: {failure}"]
        raise
    finally:
        seconds = round(time.monotonic() - started, 3)
        found = {"name": name, "ok": ok, "detail": " ".join(said), "seconds": seconds}
        print(json.dumps(found), file=sys.__stdout__, flush=True)


def open_experiment(client: mlflow.MlflowClient) -> str:
    """Return the id of the experiment of the checks, made or taken out of the bin."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        return str(client.create_experiment(EXPERIMENT))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def log_run(client: mlflow.MlflowClient, experiment: str) -> tuple[Run, str]:
    """Log parameters, metrics in a batch, random bytes and a model with its signature."""
    with mlflow.start_run(experiment_id=experiment, run_name="round trip") as run:
        now = int(time.time() * 1000)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric("loss", 1 / (step + 1), now, step) for step in range(_METRICS)],
            params=[Param("alpha", "0.5"), Param("name", "gr\u00fc\u00df dich \u20ac")],
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _FILE
            path.write_bytes(_CONTENT)
            client.log_artifact(run.info.run_id, str(path))
        model = mlflow.pyfunc.log_model(
            name="model",
            python_model=Doubler(),
            signature=infer_signature(_NUMBERS, _NUMBERS * 2),
            # Told, or the client would spend half a minute finding out.
            pip_requirements=["mlflow-skinny"],
        )
    return run, model.model_id


def read_back(client: mlflow.MlflowClient, run: Run) -> str:
    """Compare everything that was logged with what the server gives back."""
    run_id = run.info.run_id
    data = client.get_run(run_id).data
    must(data.params == {"alpha": "0.5", "name": "gr\u00fc\u00df dich \u20ac"}, "parameters differ")
    history = client.get_metric_history(run_id, "loss")
    must(sorted(metric.step for metric in history) == list(range(_METRICS)), "metrics differ")
    with tempfile.TemporaryDirectory() as folder:
        got = Path(client.download_artifacts(run_id, _FILE, folder)).read_bytes()
    must(got == _CONTENT, f"the artifact came back different ({len(got)} bytes)")
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    must(model.metadata.signature is not None, "the model lost its signature")
    predicted = np.asarray(model.predict(_NUMBERS)).ravel().tolist()
    must(predicted == [2.0, 4.0], f"the model predicts {predicted}")
    return f"equal, {len(got)} bytes of artifact, the model predicts"


def find_in_blob(blob: dict[str, str], run: Run) -> str:
    """Read the same bytes from the store itself, past the server."""
    credential = {"account_name": blob["account"], "account_key": blob["key"]}
    store = ContainerClient(
        blob["endpoint"],
        blob["container"],
        credential=credential,
        retry_total=1,
        initial_backoff=1,
        connection_timeout=5,
    )
    name = f"{urlsplit(run.info.artifact_uri).path.strip('/')}/{_FILE}"
    must(store.download_blob(name).readall() == _CONTENT, f"blob {name} has other bytes")
    return f"{blob['container']}/{name} has the same bytes"


def remove(client: mlflow.MlflowClient, run: Run, model: str) -> str:
    """Delete the files of the run and of its model for good, and the entries as far as it goes."""
    files = (run.info.artifact_uri, client.get_logged_model(model).artifact_location)
    for location in files:
        get_artifact_repository(location).delete_artifacts()
    left = client.list_artifacts(run.info.run_id)
    must(not left, f"the server still lists {[file.path for file in left]}")
    client.delete_logged_model(model)
    client.delete_run(run.info.run_id)
    return "files gone, run and experiment in the bin (mlflow gc empties it)"


def must(truth: bool, otherwise: str) -> None:
    """Fail with a message unless something is true.

    Raises:
        AssertionError: It is not.
    """
    if not truth:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    main()
