"""Container images from packages: put together twice they are the same, and their programs run."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from bakery.containers import ContainerImage, resolve_containers
from bakery.containers.archive import read_archive, unpack_layers
from bakery.run import run

_STATUS = "./var/lib/dpkg/status"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ContainerImage]:
    return _by_name(resolve_containers("packages", cache=tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def roots(
    fresh: dict[str, ContainerImage], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Unpack each image, to run its programs without an engine."""
    folder = tmp_path_factory.mktemp("roots")
    for name, image in fresh.items():
        unpack_layers(read_archive(image.archive, folder / "layers"), folder / name)
        shutil.rmtree(folder / "layers")
    return {name: folder / name for name in fresh}


def _by_name(images: list[ContainerImage]) -> dict[str, ContainerImage]:
    return {image.name: image for image in images}


def _debian_packages(image: ContainerImage) -> bytes:
    """Return the list of Debian packages in an image's first layer, nothing where there is none."""
    with tarfile.open(image.archive) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        layer = archive.extractfile(json.loads(manifest.read())[0]["Layers"][0])
        assert layer is not None
        with tarfile.open(fileobj=layer) as files:
            if _STATUS not in files.getnames():
                return b""
            status = files.extractfile(_STATUS)
            assert status is not None
            return status.read()


def test_the_same_packages_give_the_same_images(
    fresh: dict[str, ContainerImage], state: Path, tmp_path: Path
) -> None:
    other = _by_name(resolve_containers("packages", cache=state.absolute() / "cache"))
    if any(_debian_packages(fresh[name]) != _debian_packages(other[name]) for name in fresh):
        # The archive has moved on since the cache was filled.
        other = _by_name(resolve_containers("packages", cache=tmp_path))
    for name, image in fresh.items():
        assert image.archive != other[name].archive
        assert (name, image.image_id) == (name, other[name].image_id)


def test_each_image_has_its_user(roots: dict[str, Path]) -> None:
    for name, number in (("mysql", 999), ("mlflow", 1001), ("traefik", 1002)):
        users = (roots[name] / "etc/passwd").read_text(encoding="utf-8").splitlines()
        assert [line for line in users if line.startswith(f"{name}:x:{number}:{number}:")]


def test_mysql_runs_and_makes_its_data(
    roots: dict[str, Path], fresh: dict[str, ContainerImage]
) -> None:
    root = roots["mysql"]
    for program in ("mysqld", "mysql", "mysqldump", "mysqladmin"):
        assert fresh["mysql"].version in run(["chroot", root, program, "--version"]).stdout
    run(["mknod", "-m", "666", root / "dev/null", "c", "1", "3"])
    run(["mknod", "-m", "666", root / "dev/urandom", "c", "1", "9"])
    as_mysql: list[str | Path] = ["chroot", "--userspec=999:999", root]
    options = ["--initialize-insecure", "--datadir=/tmp/data", "--secure-file-priv=NULL"]
    run([*as_mysql, "mysqld", *options])
    assert (root / "tmp/data/mysql.ibd").is_file()
    assert run([*as_mysql, "/bin/sh", "-c", "echo ok"]).stdout == "ok\n"


def test_mlflow_runs_on_compiled_files(
    roots: dict[str, Path], fresh: dict[str, ContainerImage]
) -> None:
    root = roots["mlflow"]
    environment = read_environment(fresh["mlflow"])
    as_mlflow: list[str | Path] = ["chroot", "--userspec=1001:1001", root, "env", *environment]
    said = run([*as_mlflow, "mlflow", "--version"]).stdout
    assert said == f"mlflow, version {fresh['mlflow'].version}\n"
    # Python names the file that each module's code came from: never a source of ours.
    modules = "mlflow.server, pymysql, azure.storage.blob, azure.identity, sklearn, pandas"
    trace = run([*as_mlflow, "python3", "-v", "-c", f"import {modules}"]).stderr
    assert "/opt/mlflow/mlflow/server/__pycache__/__init__.cpython-313.pyc" in trace
    compiled = [line for line in trace.splitlines() if line.startswith("# code object from '/")]
    sources = [line for line in compiled if ".pyc'" not in line]
    assert compiled
    assert sources == []


def test_traefik_is_the_version_of_the_lock(
    roots: dict[str, Path], fresh: dict[str, ContainerImage]
) -> None:
    said = run(["chroot", roots["traefik"], "/usr/local/bin/traefik", "version"]).stdout
    assert fresh["traefik"].version in said
    authorities = roots["traefik"] / "etc/ssl/certs/ca-certificates.crt"
    assert "BEGIN CERTIFICATE" in authorities.read_text(encoding="utf-8")


def read_environment(image: ContainerImage) -> list[str]:
    """Return the variables that an engine would start the image with."""
    with tarfile.open(image.archive) as archive:
        file = archive.extractfile(f"{image.image_id.removeprefix('sha256:')}.json")
        assert file is not None
        words: list[str] = json.loads(file.read())["config"]["Env"]
    return words
