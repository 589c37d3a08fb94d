"""Every check that needs no machine, as a test: style, types, scripts, templates, schemas."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import jsonschema
import pytest
import yaml

from bakery import packer, recipe, ssh
from bakery.environment import user_data
from bakery.render import render
from bakery.targets.base import SshAccess

PROJECT = Path(__file__).parents[2]
HOST = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
SOURCES = {".list", ".sources"}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPxz test"


def passes(*words: str | Path) -> None:
    """Fail with the output of a command that does not end with 0."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=PROJECT, env=HOST, check=False, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, check=True, text=True, capture_output=True,
    ).stdout  # fmt: skip
    return [PROJECT / name for name in listed.splitlines() if (PROJECT / name).is_file()]


def shell_scripts() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".sh" or shebang(path).endswith("sh")]


def shebang(path: Path) -> str:
    with path.open("rb") as file:
        line = file.readline(80)
    return line.decode("ascii", "replace").strip() if line.startswith(b"#!") else ""


def test_ruff() -> None:
    passes(sys.executable, "-m", "ruff", "check")


def test_ruff_format() -> None:
    passes(sys.executable, "-m", "ruff", "format", "--check")


def test_mypy() -> None:
    passes(sys.executable, "-m", "mypy")


def test_shellcheck_on_every_script() -> None:
    scripts = shell_scripts()
    assert PROJECT / "inv" in scripts
    assert len(scripts) > 6
    passes("shellcheck", *scripts)


def test_shellcheck_would_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.sh"
    bad.write_text("#!/bin/sh\nrm -rf $1/*\n")
    with pytest.raises(AssertionError, match="SC2086"):
        passes("shellcheck", bad)


def written(folder: Path, source: Literal["null", "qemu"]) -> recipe.Recipe:
    key = folder / "key"
    ssh.make_key(key)
    (folder / "mysql.tar").write_bytes(b"archive")
    (folder / "seed").mkdir()
    (folder / "seed" / "user-data").write_text("#cloud-config\n")
    (folder / "base.raw").write_bytes(b"base")
    qemu = recipe.Qemu(
        base=str(folder / "base.raw"),
        base_checksum="none",
        seed=str(folder / "seed"),
        output=str(folder / "output"),
        console=str(folder / "console.log"),
    )
    inputs = recipe.Inputs(
        base="debian-13",
        archives={"mysql": folder / "mysql.tar"},
        images_json="{}",
        ssh=SshAccess(host="192.0.2.2", user="bake", key=key, known_hosts=folder / "known_hosts"),
        source=source,
        qemu=qemu,
    )
    return recipe.write_recipe(folder / "recipe", inputs, packer.find_packer()[1])


@pytest.mark.parametrize("source", ["null", "qemu"])
def test_packer_accepts_the_rendered_template(
    tmp_path: Path, source: Literal["null", "qemu"]
) -> None:
    made = written(tmp_path, source)
    packer.validate(made.folder)
    passes(packer.find_packer()[0], "fmt", "-check", made.folder)


@pytest.mark.parametrize("source", ["null", "qemu"])
def test_packer_refuses_a_misspelt_option(tmp_path: Path, source: Literal["null", "qemu"]) -> None:
    made = written(tmp_path, source)
    template = made.folder / "template.pkr.hcl"
    template.write_text(template.read_text().replace("ssh_timeout ", "ssh_timeuot "))
    with pytest.raises(Exception, match="packer failed"):
        packer.validate(made.folder)


def cloud_init_schema(cache: Path) -> Path:
    """Unpack cloud-init's Debian package, for its own schema check; installs nothing."""
    folder = cache / "cloud-init"
    if not (folder / "usr").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "-qq", "cloud-init"], cwd=folder, check=True, timeout=120
        )
        package = next(folder.glob("cloud-init_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder / "usr/lib/python3/dist-packages/cloudinit/config/schemas"


def documents() -> dict[str, str]:
    return {
        "user-data": user_data({"deployment": "x"}, 1),
        "training-user-data": render("cloud-init/training-user-data.yaml.j2", user="bakery"),
        "build-user-data": render("cloud-init/build-user-data.yaml.j2", public_key=PUBLIC_KEY),
    }


@pytest.mark.parametrize("name", sorted(documents()))
def test_cloud_init_accepts_the_rendered_user_data(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.getbasetemp().parent / "cloud-init-package"
    schemas = cloud_init_schema(cache)
    schema = json.loads((schemas / "schema-cloud-config-v1.json").read_text())
    text = documents()[name]
    assert text.startswith("#cloud-config\n")
    parsed = yaml.safe_load(text)
    jsonschema.validate(parsed, schema)
    parsed["runcmd"] = "no list"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parsed, schema)


def test_nothing_names_this_machine_or_a_registry_host() -> None:
    """The lock files hold hashes only: where packages come from is the user's affair."""
    hosts = package_hosts()
    assert hosts, "this host gets packages from somewhere"
    assert named_in([b"see " + hosts[0]], hosts), "the probe finds a name"
    assert [path for path in tracked() if named_in([path.read_bytes()], hosts)] == []


def named_in(texts: list[bytes], hosts: list[bytes]) -> bool:
    return any(host in text for text in texts for host in hosts)


def package_hosts() -> list[bytes]:
    """Return the hosts that apt and npm of this machine get packages from."""
    sources = [path.read_text() for path in Path("/etc/apt").rglob("*") if path.suffix in SOURCES]
    npm = subprocess.run(
        ["npm", "config", "get", "registry"], check=True, text=True, capture_output=True
    ).stdout
    return [host.encode() for host in re.findall(r"https?://([^/\s]+)", "\n".join([*sources, npm]))]
