"""Ubuntu's cloud images: the dated release, its signed checksums, the disk."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from bakery import debian
from bakery.errors import InputError
from bakery.pins import UbuntuRelease
from bakery.run import need, run
from bakery.store import build

# To connect and between two pieces, in seconds: whether the site can be had is known soon.
_TIMEOUT = (5, 60)
_RELEASE = re.compile(r'href="release-(\d{8}(?:\.\d+)?)/"')
_PIECE = 1 << 20


class UnreachableError(InputError):
    """The site of the images does not give what it should, so nothing of it is known."""


@dataclass(frozen=True)
class Published:
    """An image as its publisher signed it."""

    url: str
    release: str
    sha256: str


def find_published(recipe: dict[str, Any], pinned: UbuntuRelease, *, cache: Path) -> Published:
    """Find the pinned release of an image, or the newest, and verify its signed checksum.

    Raises:
        UnreachableError: The site cannot be reached or lacks the release.
        InputError: The signature is not the publisher's, or the checksum not the pinned one.
    """
    release = pinned.release or newest_release(recipe)
    folder = f"{recipe['releases']}/release-{release}"
    sums, signature = (_get(f"{folder}/{name}") for name in ("SHA256SUMS", "SHA256SUMS.gpg"))
    _verify(sums, signature, recipe, folder, cache)
    found = re.search(rf"^([0-9a-f]{{64}}) [ *]{re.escape(recipe['image'])}$", sums, re.MULTILINE)
    if found is None:
        raise InputError(f"{folder}/SHA256SUMS does not name {recipe['image']}")
    if pinned.sha256 and found[1] != pinned.sha256:
        raise InputError(
            f"{recipe['image']} of {release} has another checksum than the lock",
            hint="./inv lock resolves it anew",
        )
    return Published(f"{folder}/{recipe['image']}", release, found[1])


def newest_release(recipe: dict[str, Any]) -> str:
    """Return the date of the newest release of an image.

    Raises:
        UnreachableError: The site cannot be reached or lists no release.
    """
    dates = _RELEASE.findall(_get(f"{recipe['releases']}/"))
    if not dates:
        raise UnreachableError(f"{recipe['releases']} lists no dated release")
    newest: str = max(dates)
    return newest


def fetch_disk(published: Published, work: Path) -> Path:
    """Download an image into the directory `work` and return it as a raw disk there.

    Raises:
        InputError: What came is not what was published, or qemu-img is missing.
    """
    tool = need("qemu-img", package="qemu-utils", why="it converts Ubuntu's images")
    image, disk = work / "image", work / "disk.raw"
    received = _download(published.url, image)
    if received != published.sha256:
        raise InputError(
            f"{published.url} is not the image that was published: its SHA-256 is {received}, "
            f"not {published.sha256}",
            hint="truncated or altered on the way; nothing of it was kept, try again",
        )
    run([tool, "convert", "-O", "raw", image, disk])
    image.unlink()
    return disk


def _get(url: str) -> str:
    try:
        answer = requests.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as failed:
        raise UnreachableError(
            f"{url} cannot be had: {_reason(failed)}",
            hint="is there a route to it? --base debian-13 needs none",
        ) from failed
    # Signatures are ASCII-armoured or not: one character for each byte keeps both whole.
    return answer.content.decode("latin-1")


def _download(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    try:
        with requests.get(url, timeout=_TIMEOUT, stream=True) as answer, target.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(_PIECE):
                digest.update(piece)
                file.write(piece)
    except requests.RequestException as failed:
        raise InputError(
            f"{url} did not come whole: {_reason(failed)}", hint="nothing was kept, try again"
        ) from failed
    return digest.hexdigest()


def _reason(failed: requests.RequestException) -> str:
    if failed.response is not None:
        return f"the answer is {failed.response.status_code}"
    if isinstance(failed, requests.Timeout):
        return "no answer"
    if isinstance(failed, requests.exceptions.SSLError):
        return "its certificate is not trusted here"
    if isinstance(failed, requests.ConnectionError):
        return "no connection"
    return type(failed).__name__


def _verify(sums: str, signature: str, recipe: dict[str, Any], folder: str, cache: Path) -> None:
    tool = need("gpgv", package="gpgv", why="it verifies Ubuntu's checksums")
    keyring = _keyring(recipe, cache)
    with TemporaryDirectory() as work:
        text, mark = Path(work) / "SHA256SUMS", Path(work) / "SHA256SUMS.gpg"
        text.write_bytes(sums.encode("latin-1"))
        mark.write_bytes(signature.encode("latin-1"))
        done = run([tool, "--status-fd", "1", "--keyring", keyring, mark, text], check=False)
    valid = [line.split() for line in done.stdout.splitlines() if " VALIDSIG " in line]
    # The last word is the primary key, whichever of its keys signed.
    if done.returncode != 0 or not any(words[-1] == recipe["signer"] for words in valid):
        raise InputError(
            f"{folder}/SHA256SUMS is not signed by {recipe['signer']}",
            hint="altered on the way, or another key signs now; nothing of it was kept",
        )


def _keyring(recipe: dict[str, Any], cache: Path) -> Path:
    """Return the publisher's keyring: this host's, or out of a package that Debian signed."""
    own = Path(recipe["keyring"])
    if own.is_file():
        return own
    package = recipe["keyring_package"]
    entry = build(cache / "bases" / package, lambda part: _extract(package, part, cache))
    return entry / "root" / own.relative_to("/")


def _extract(package: str, part: Path, cache: Path) -> None:
    debian.bootstrap(
        "trixie",
        part / "root",
        [package],
        mirrors=debian.host_mirrors(),
        log=cache / "bases" / f"{package}.log",
        variant="extract",
    )
