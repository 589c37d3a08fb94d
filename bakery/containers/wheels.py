"""Python wheels, locked by hash, as files of a container image."""

import base64
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from uv import find_uv_bin

from bakery.containers.archive import Image, extend, pack_layer, unpack_layers
from bakery.errors import InputError
from bakery.log import note, step
from bakery.pins import IMAGES
from bakery.run import run

_PLATFORM = "x86_64-manylinux_2_28"
_HOME = "opt/mlflow"
# Test suites of these are a tenth of their size, and nothing imports them.
_TESTED = ("matplotlib", "numpy", "pandas", "pyarrow", "scipy", "sklearn")
# uv writes scripts for the interpreter it runs on; long paths give the second form.
_INTERPRETER = re.compile(rb"\A#!(?:/bin/sh\n'''exec' .*\n' '''|[^\n]*)\n")
# What a compiled file holds depends a little on what the same process compiled before, so who
# compiles what is fixed: this many processes, whatever the host has.
_COMPILERS = 4
_COMPILE = (
    *("/usr/bin/env", "PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONHASHSEED=0"),
    *("python3", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"),
)


def requirements(name: str) -> Path:
    """Return the file with the locked requirements of an image."""
    return IMAGES / "containers" / name / "requirements.txt"


def locked_version(file: Path, package: str) -> str:
    """Return the version of a package in locked requirements.

    Raises:
        InputError: It is not in there, or there is no such file.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{file}: no such file", hint="./inv lock writes the own ones") from None
    found = re.search(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE)
    if found is None:
        raise InputError(f"{file} has no {package}", hint="./inv lock writes the own ones")
    return found[1]


def check_version(name: str, package: str, expected: str) -> None:
    """See that an image's requirements and the lock agree.

    Raises:
        InputError: They do not.
    """
    found = locked_version(requirements(name), package)
    if found != expected:
        raise InputError(
            f"{requirements(name)} has {package} {found}, the lock has {expected}",
            hint="./inv lock resolves both anew",
        )


def compile_requirements(name: str, *, python: str) -> None:
    """Resolve an image's requirements anew, each with its hashes.

    Raises:
        BakeryError: They cannot be resolved, or the package index cannot be reached.
    """
    target = requirements(name)
    images = ("--no-header", "--only-binary", ":all:", "--python-platform", _PLATFORM)
    compile_file(target.with_suffix(".in"), target, "--python-version", python, *images)


def compile_file(source: Path, target: Path, *options: str) -> None:
    """Resolve a list of packages anew, each with its hashes; all of it is written, or nothing.

    Raises:
        BakeryError: They cannot be resolved, or the package index cannot be reached.
    """
    part = target.with_suffix(".part")
    run(
        [
            *(find_uv_bin(), "pip", "compile", "--quiet", "--upgrade", "--generate-hashes"),
            *("--no-emit-index-url", "--no-annotate", "--custom-compile-command", "./inv lock"),
            *options,
            *("--output-file", part, source),
        ],
        hint="is the package index reachable?",
    )
    changed = not target.exists() or part.read_bytes() != target.read_bytes()
    part.replace(target)
    if changed:
        note(f"written: {target}")


def install(file: Path, target: Path, *, python: str) -> None:
    """Install locked wheels into a directory, for another interpreter than ours.

    Raises:
        BakeryError: A wheel could not be had, or is not the one that was locked.
    """
    run(
        [
            *(find_uv_bin(), "pip", "install", "--quiet", "--no-deps"),
            # Not as links into uv's cache: another install changes them while they are packed.
            "--link-mode=copy",
            *("--require-hashes", "--only-binary", ":all:", "--python-version", python),
            *("--python-platform", _PLATFORM, "--target", target),
            *("--requirements", file),
        ],
        hint="is the package index reachable?",
    )
    (target / ".lock").unlink(missing_ok=True)
    name_no_interpreter(target)


def name_no_interpreter(target: Path) -> None:
    """Let scripts find their Python by PATH: no path of this host is in them, or in a RECORD.

    A RECORD has the hash of each script, so it would differ from one checkout to another.
    """
    told: dict[str, str] = {}
    for script in (target / "bin").iterdir():
        content = script.read_bytes()
        if content.startswith(b"#!"):
            content = _INTERPRETER.sub(b"#!/usr/bin/env python3\n", content)
            script.write_bytes(content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            told[f"bin/{script.name}"] = f"sha256={digest},{len(content)}"
    for record in target.glob("*.dist-info/RECORD"):
        rows = [line.partition(",") for line in record.read_text("utf-8").splitlines()]
        lines = [f"{path},{told.get(path, rest)}\n" for path, _, rest in rows]
        record.write_text("".join(lines), encoding="utf-8")


def compile_all(root: Path, folder: str) -> None:
    """Compile the Python files of a folder with the interpreter in a root file system.

    The results hold the hash of their source and are never checked against it: importing is most
    of a server's start, and files in an image do not change.
    """
    inside = [
        f"/{path.relative_to(root)}"
        for path in sorted((root / folder).iterdir())
        if path.is_dir() or path.suffix == ".py"
    ]
    shares = filter(None, (inside[number::_COMPILERS] for number in range(_COMPILERS)))
    with ThreadPoolExecutor(_COMPILERS) as pool:
        list(pool.map(lambda share: run(["chroot", root, *_COMPILE, *share]), shares))


def mlflow_image(base: Image, work: Path, *, wheels: Path, python: str, version: str) -> Image:
    """Add MLflow and all it needs to an image with a Python."""
    tree, root, layer = work / "tree", work / "root", work / "mlflow.tar"
    with step("Install MLflow's wheels"):
        install(wheels, tree / _HOME, python=python)
        _drop_tests(tree / _HOME)
    with step("Compile them"):
        unpack_layers(base, root)
        (root / "opt").mkdir(exist_ok=True)
        (tree / _HOME).rename(root / _HOME)
        compile_all(root, _HOME)
        (root / _HOME).rename(tree / _HOME)
    pack_layer(tree, layer)
    path = next((word for word in base.settings.get("Env") or [] if word.startswith("PATH=")), "")
    environment = {
        "PATH": f"/{_HOME}/bin:" + (path.removeprefix("PATH=") or "/usr/local/bin:/usr/bin:/bin"),
        "PYTHONPATH": f"/{_HOME}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return extend(
        base,
        layer,
        environment=environment,
        labels={
            "org.opencontainers.image.title": "mlflow",
            "org.opencontainers.image.version": version,
        },
        user="1001:1001",
    )


def _drop_tests(site: Path) -> None:
    for package in _TESTED:
        folders = [path for path in (site / package).rglob("tests") if path.is_dir()]
        if folders:
            run(["rm", "-rf", *folders])
