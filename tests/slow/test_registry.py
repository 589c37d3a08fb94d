"""Container images from a real registry on loopback, filled by the test."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests

from bakery.containers import ContainerImage, resolve_containers
from bakery.containers.archive import Image, new_image, write_archive
from bakery.containers.registry import Registry
from bakery.errors import InputError
from bakery.pins import Lock, read_lock, write_lock
from bakery.run import need, run


@dataclass(frozen=True)
class Upstream:
    """A registry that runs, what lies in it, and a lock that names it."""

    host: str
    storage: Path
    lock: Lock
    image_ids: dict[str, str]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(config), encoding="utf-8")
    tool = need("docker-registry", package="docker-registry", why="it is the registry of the test")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [tool, "serve", folder / "config.yml"], stdout=log, stderr=subprocess.STDOUT
        )
    for _ in range(100):
        try:
            if requests.get(f"http://127.0.0.1:{port}/v2/", timeout=1).ok:
                return process
        except requests.ConnectionError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError((folder / "log").read_text(encoding="utf-8"))


def _push(archive: Path, name: str) -> None:
    target = f"docker://{name}"
    run(
        [
            "skopeo",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            f"docker-archive:{archive}",
            target,
        ]
    )


def _pretended(name: str, version: str, folder: Path) -> tuple[Image, Path]:
    """Make a small image that says its version the way the official one does."""
    tree, layer, archive = (folder / f"{name}{end}" for end in ("", ".layer", ".tar"))
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin" / name).write_text(f"{name} {version}\n", encoding="utf-8")
    run(["tar", "--create", f"--file={layer}", f"--directory={tree}", "."])
    image = new_image([layer], environment={f"{name.upper()}_VERSION": version})
    write_archive(archive, image, f"{name}:test")
    return image, archive


@pytest.fixture(scope="module")
def shared(state: Path) -> Path:
    """The cache that the tests' image is baked from, too."""
    return state.absolute() / "cache"


@pytest.fixture(scope="module")
def packaged(shared: Path) -> list[ContainerImage]:
    return resolve_containers("packages", cache=shared)


@pytest.fixture(scope="module")
def upstream(
    packaged: list[ContainerImage], shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upstream]:
    """Run a registry with a MySQL, a Traefik, and the Python of our own packages."""
    folder = tmp_path_factory.mktemp("registry")
    port = _free_port()
    host = f"127.0.0.1:{port}"
    process = _serve(folder, port)
    try:
        python = next((shared / "containers").glob("python-packages-*/image.tar"))
        ids = {"python": json.loads((python.parent / "image.json").read_text("utf-8"))["image_id"]}
        _push(python, f"{host}/library/python:3.13-slim")
        for name, tag, version in (("mysql", "8.4", "8.4.7-1.el9"), ("traefik", "v3.7", "v3.7.2")):
            image, archive = _pretended(name, version, folder)
            ids[name] = image.image_id
            _push(archive, f"{host}/library/{name}:{tag}")
        place = Registry(host, tls_verify=False)
        lock = read_lock()
        resolved = tuple(replace(one, digest=place.digest(one)) for one in lock.registry)
        yield Upstream(host, folder / "storage", replace(lock, registry=resolved), ids)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def lock_file(upstream: Upstream, tmp_path: Path) -> Path:
    path = tmp_path / "lock.toml"
    write_lock(upstream.lock, path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_images_come_by_digest(
    upstream: Upstream, packaged: list[ContainerImage], lock_file: Path, cache: Path
) -> None:
    found = resolve_containers(
        "registry", cache=cache, registry=upstream.host, tls_verify=False, lock=lock_file
    )
    mysql, traefik, mlflow = found
    assert [one.name for one in found] == ["mysql", "traefik", "mlflow"]
    assert (mysql.image_id, traefik.image_id) == (
        upstream.image_ids["mysql"],
        upstream.image_ids["traefik"],
    )
    assert (mysql.version, traefik.version) == ("8.4.7", "3.7.2")
    assert mysql.reference == "mlflow-bakery/mysql:8.4.7"
    digest = upstream.lock.upstream("mysql").digest
    assert mysql.source == f"registry {upstream.host}/library/mysql@{digest}"
    # The same Python below the same wheels is the same image, wherever the Python came from.
    assert mlflow.image_id == packaged[2].image_id
    listed = run(["tar", "--list", f"--file={mysql.archive}"]).stdout.split()
    assert f"{mysql.image_id.removeprefix('sha256:')}.json" in listed


def test_auto_takes_a_registry_that_answers(
    upstream: Upstream, lock_file: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = resolve_containers(
        "auto", cache=cache, registry=upstream.host, tls_verify=False, lock=lock_file
    )
    assert all(one.source.startswith(f"registry {upstream.host}/") for one in found)
    assert f"container images come from registry: {upstream.host} answers" in capfd.readouterr().err


def test_a_second_call_needs_no_registry(lock_file: Path, upstream: Upstream, cache: Path) -> None:
    began = time.monotonic()
    # No program can be found, so nothing but the cache can have answered.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        resolve_containers(
            "registry", cache=cache, registry=upstream.host, tls_verify=False, lock=lock_file
        )
    assert time.monotonic() - began < 0.5


def test_a_digest_that_the_registry_lacks_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    images = [replace(one, digest="sha256:" + "0" * 64) for one in upstream.lock.registry]
    write_lock(replace(upstream.lock, registry=tuple(images)), tmp_path / "lock.toml")
    with pytest.raises(InputError, match="manifest unknown") as refused:
        resolve_containers(
            "registry",
            cache=tmp_path / "cache",
            registry=upstream.host,
            tls_verify=False,
            lock=tmp_path / "lock.toml",
        )
    assert "./inv lock" in refused.value.hint
    assert not list((tmp_path / "cache/containers").glob("*/image.tar"))


def test_an_unreachable_registry_is_refused(lock_file: Path, tmp_path: Path) -> None:
    closed = f"127.0.0.1:{_free_port()}"
    with pytest.raises(InputError, match="connection refused") as refused:
        resolve_containers("registry", cache=tmp_path, registry=closed, lock=lock_file)
    assert "is the registry reachable?" in refused.value.hint


def test_auto_falls_to_packages_and_remembers(
    lock_file: Path, shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/containers").symlink_to(_without_memory(shared, tmp_path))
    closed = f"127.0.0.1:{_free_port()}"
    for expected in (1, 0):
        found = resolve_containers(
            "auto", cache=tmp_path / "cache", registry=closed, lock=lock_file
        )
        assert {one.source for one in found} == {"packages"}
        said = capfd.readouterr().err
        assert said.count("container images come from packages") == expected
        assert said.count("connection refused") == expected


def _without_memory(shared: Path, folder: Path) -> Path:
    """Have what is in the shared cache without what it remembers."""
    copy = folder / "containers"
    copy.mkdir()
    for entry in (shared / "containers").glob("*-packages-*"):
        (copy / entry.name).symlink_to(entry)
    return copy


def test_a_silent_registry_costs_seconds(lock_file: Path, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = Registry(f"127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(InputError, match="no answer within 5 s"):
            place.check(read_lock(lock_file).upstream("mysql"))
        assert time.monotonic() - began < 8


def test_an_unresolved_lock_is_refused(tmp_path: Path) -> None:
    lock = read_lock()
    images = tuple(replace(one, digest="") for one in lock.registry)
    write_lock(replace(lock, registry=images), tmp_path / "lock.toml")
    with pytest.raises(InputError, match="was never resolved"):
        resolve_containers("registry", cache=tmp_path, lock=tmp_path / "lock.toml")


def test_an_altered_layer_is_refused(upstream: Upstream, lock_file: Path, tmp_path: Path) -> None:
    """Last, because it breaks the registry's MySQL."""
    before = {path: path.read_bytes() for path in upstream.storage.rglob("data")}
    changed = 0
    for path, content in before.items():
        # Only layers are gzip; the rest is JSON.
        if content.startswith(b"\x1f\x8b") and len(content) < 10_000:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            changed += 1
    assert changed == 2
    with pytest.raises(InputError, match="Digest did not match"):
        resolve_containers(
            "registry",
            cache=tmp_path,
            registry=upstream.host,
            tls_verify=False,
            lock=lock_file,
        )
    assert not list((tmp_path / "containers").glob("mysql-*"))
