"""Copies backups between the data disk and their container in Blob; run by the machine's tools."""

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import ContainerClient

STORAGE = Path("/run/secrets/storage")
FOLDER = Path("/backups")
_DUMP, _MANIFEST = ".sql.gz", ".json"


def container() -> ContainerClient:
    """Return the container of the backups; it is made when it is not there."""
    access, name = STORAGE.read_text(encoding="utf-8"), os.environ["BACKUPS"]
    options: dict[str, Any] = {"retry_total": 3, "connection_timeout": 10}
    if access.startswith("ClientId="):
        # Imported here: it takes as long as all the rest.
        from azure.identity import ManagedIdentityCredential

        parts = dict(part.split("=", 1) for part in access.split(";"))
        credential = ManagedIdentityCredential(client_id=parts["ClientId"])
        client = ContainerClient(parts["BlobEndpoint"], name, credential=credential, **options)
    else:
        client = ContainerClient.from_connection_string(access, name, **options)
    with contextlib.suppress(ResourceExistsError):
        client.create_container()
    return client


def put(client: ContainerClient, name: str) -> None:
    """Copy a backup to Blob, the manifest last: without it there is no backup.

    Raises:
        ValueError: What arrived is not what was sent.
    """
    for suffix in (_DUMP, _MANIFEST):
        path = FOLDER / f"{name}{suffix}"
        blob = client.get_blob_client(path.name)
        with path.open("rb") as stream:
            blob.upload_blob(stream, overwrite=True, validate_content=True)
        size = blob.get_blob_properties().size
        if size != path.stat().st_size:
            raise ValueError(f"{path.name}: {size} bytes arrived of {path.stat().st_size}")


def get(client: ContainerClient, name: str) -> None:
    """Copy a backup from Blob, whole or not at all.

    Raises:
        ValueError: It is not what its manifest says.
    """
    manifest = client.download_blob(f"{name}{_MANIFEST}").readall()
    part = FOLDER / f".{name}{_DUMP}.part"
    digest = hashlib.sha256()
    with part.open("wb") as stream:
        for chunk in client.download_blob(f"{name}{_DUMP}", validate_content=True).chunks():
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if digest.hexdigest() != json.loads(manifest)["sha256"]:
        part.unlink()
        raise ValueError(f"{name}{_DUMP} in Blob was altered: its SHA-256 is another")
    part.replace(FOLDER / f"{name}{_DUMP}")
    text = FOLDER / f".{name}{_MANIFEST}.part"
    text.write_bytes(manifest)
    text.replace(FOLDER / f"{name}{_MANIFEST}")


def listed(client: ContainerClient) -> list[object]:
    """Return every manifest in Blob."""
    names = [name for name in client.list_blob_names() if name.endswith(_MANIFEST)]
    return [json.loads(client.download_blob(name).readall()) for name in names]


def remove(client: ContainerClient, names: list[str]) -> None:
    """Remove backups, each manifest first."""
    for name in names:
        for suffix in (_MANIFEST, _DUMP):
            with contextlib.suppress(ResourceNotFoundError):
                client.delete_blob(f"{name}{suffix}")


def main(arguments: list[str]) -> int:
    """Run `list`, `put NAME`, `get NAME` or `remove NAME...`; the exit code."""
    os.umask(0o077)
    verb, *names = arguments
    try:
        client = container()
        if verb == "list":
            print(json.dumps(listed(client)))
        elif verb == "remove":
            remove(client, names)
        else:
            {"put": put, "get": get}[verb](client, names[0])
    except (AzureError, OSError, ValueError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
