"""Serve a model of the registry over HTTP, ask it about one wine, and stop."""

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from sklearn.datasets import load_wine

SECONDS = 60


def main() -> None:
    """Serve, ask, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models:/wine@champion")
    model = parser.parse_args().model
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = ["models", "serve", "--model-uri", model, "--env-manager", "local", "--port", port]
    server = subprocess.Popen([sys.executable, "-m", "mlflow", *words])
    try:
        wait(server, f"http://127.0.0.1:{port}/ping")
        wines = load_wine(as_frame=True)
        one = wines.data.iloc[[100]]
        said = ask(f"http://127.0.0.1:{port}/invocations", one.to_dict(orient="split"))
        print(f"{model} takes wine 100 for {wines.target_names[said]}", flush=True)
        assert said == wines.target[100], f"it is {wines.target_names[wines.target[100]]}"
    finally:
        server.terminate()
        server.wait()


def wait(server: subprocess.Popen, url: str) -> None:
    """Wait until the model's server answers."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise SystemExit(f"the model's server does not answer at {url}")


def ask(url: str, split: dict) -> int:
    """Return the class that the model predicts for one row."""
    body = json.dumps({"dataframe_split": {key: split[key] for key in ("columns", "data")}})
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["predictions"][0]


if __name__ == "__main__":
    main()
