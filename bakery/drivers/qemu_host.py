"""QEMU on this host: what a Debian 13 guest needs, from backports where the release has it older.

`./inv test` calls this as root; it changes nothing but what it says first.
"""

import re
import shutil
import sys
from pathlib import Path

from bakery.debian import host_mirrors
from bakery.errors import BakeryError, InputError
from bakery.run import run

QEMU = "qemu-system-x86_64"
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_PACKAGES = ("qemu-system-x86", "ovmf")
# 7.2 without hardware virtualization ends a Debian 13 kernel with a double fault.
_OLDEST = 10
_APT = Path("/etc/apt")
_NAME = "mlflow-bakery-backports"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_VERSION = re.compile(r"(?:\d+:)?(\d+)\.")


def found() -> bool:
    """Return whether a QEMU that is new enough and its firmware are installed."""
    if shutil.which(QEMU) is None or not (FIRMWARE.exists() and VARIABLES.exists()):
        return False
    said = run([QEMU, "--version"]).stdout
    return _major(said.partition("version ")[2]) >= _OLDEST


def install() -> None:
    """Install QEMU and its firmware with apt.

    Raises:
        InputError: This host's archive has none that is new enough.
        BakeryError: The installation failed.
    """
    run(["apt-get", "update", "-qq"])
    if _candidate() < _OLDEST:
        _add_backports()
    words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    if _candidate() < _OLDEST:
        words.append(f"--target-release={_suite()}")
    _say(f"installing with apt-get: {' '.join(_PACKAGES)}")
    run([*words, *_PACKAGES], env={"DEBIAN_FRONTEND": "noninteractive"})
    if not found():
        raise InputError(f"apt has no QEMU {_OLDEST} or newer", hint="install one yourself")


def source(suite: str, mirror: str) -> str:
    """Return the apt source of a suite, in deb822 form."""
    return (
        "# For QEMU, by mlflow-bakery's ./inv test; its packages are never taken unasked.\n"
        f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n"
    )


def pin(suite: str) -> str:
    """Return apt's preference for a suite: below every release, above not installed."""
    return f"Package: *\nPin: release n={suite}\nPin-Priority: 100\n"


def _add_backports() -> None:
    suite, mirror = _suite(), host_mirrors().main
    file = _APT / f"sources.list.d/{_NAME}.sources"
    _say(f"adding {file}: {suite} from {mirror}, pinned low; remove it when you like")
    preference = _APT / f"preferences.d/{_NAME}"
    # The pin first: the source without it could change what else is installed.
    preference.write_text(pin(suite), encoding="utf-8")
    file.write_text(source(suite, mirror), encoding="utf-8")
    try:
        run(["apt-get", "update", "-qq"])
    except BakeryError:
        # A source that cannot be had would spoil every later update of this host.
        file.unlink()
        preference.unlink()
        raise


def _suite() -> str:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    name = re.search(r"^VERSION_CODENAME=(\w+)$", text, re.MULTILINE)
    if name is None:
        raise InputError("this host's release has no name", hint=f"install QEMU {_OLDEST} yourself")
    return f"{name[1]}-backports"


def _candidate() -> int:
    policy = run(["apt-cache", "policy", _PACKAGES[0]]).stdout
    return _major(policy.partition("Candidate: ")[2])


def _major(version: str) -> int:
    number = _VERSION.match(version)
    return int(number[1]) if number else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(words: list[str]) -> int:
    """Answer `found` by the exit code, or `install`."""
    if words == ["found"]:
        return 0 if found() else 1
    try:
        install()
    except BakeryError as error:
        _say(f"error: {error}\n  hint: {error.hint}\n{error.tail}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
