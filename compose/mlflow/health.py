"""Whether MLflow answers from its database: exit code 0 or 1. Plain sockets, to be quick."""

import socket
import sys

REQUEST = (
    b"GET /api/2.0/mlflow/experiments/search?max_results=1 HTTP/1.0\r\nHost: mlflow:5000\r\n\r\n"
)


def healthy() -> bool:
    """Ask for one experiment, as any client would."""
    try:
        with socket.create_connection(("127.0.0.1", 5000), timeout=8) as connection:
            connection.sendall(REQUEST)
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy() else 1)
