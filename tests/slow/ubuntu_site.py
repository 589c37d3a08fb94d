"""A site like Ubuntu's on loopback: dated releases, checksums, a signature by a key of its own."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bakery.pins import UbuntuRelease, read_lock, write_lock
from bakery.run import run

IMAGE = "ubuntu-20.04-server-cloudimg-amd64.img"
RELEASE = "20250624"


class Signer:
    """A key to sign with, in a keyring of its own."""

    def __init__(self, home: Path, name: str) -> None:
        self.home, self.name = home, name
        home.mkdir(mode=0o700, parents=True)
        self._gpg("--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", "never")
        listed = self._gpg("--list-keys", "--with-colons")
        self.fingerprint = next(
            line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr")
        )
        self.keyring = home / "public.gpg"
        self._gpg("--output", self.keyring, "--export")

    def sign(self, file: Path) -> None:
        """Write FILE.gpg beside the file."""
        signature = file.with_name(f"{file.name}.gpg")
        signature.unlink(missing_ok=True)
        self._gpg("--armor", "--output", signature, "--detach-sign", file)

    def close(self) -> None:
        """End the agent that gpg started."""
        run(["gpgconf", "--homedir", self.home, "--kill", "all"])

    def _gpg(self, *words: str | Path) -> str:
        options = ["--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        return run(["gpg", "--homedir", self.home, *options, *words]).stdout


class Site:
    """The folder of a site, and how its recipe names it."""

    def __init__(self, folder: Path, signer: Signer, disk: Path) -> None:
        self.folder, self.signer = folder, signer
        self.release = folder / "releases" / f"release-{RELEASE}"
        self.release.mkdir(parents=True)
        (folder / "releases" / "release-20240101").mkdir()
        run(["qemu-img", "convert", "-O", "qcow2", "-c", disk, self.release / IMAGE])
        self.publish()

    def publish(self) -> None:
        """Write and sign the checksums of what is there."""
        sums = self.release / "SHA256SUMS"
        digest = hashlib.sha256((self.release / IMAGE).read_bytes()).hexdigest()
        sums.write_text(f"{'0' * 64} *another.img\n{digest} *{IMAGE}\n", encoding="utf-8")
        self.signer.sign(sums)

    @property
    def sha256(self) -> str:
        """The checksum of the image as it is now."""
        return hashlib.sha256((self.release / IMAGE).read_bytes()).hexdigest()


def write_recipe(folder: Path, url: str, signer: Signer) -> None:
    """Write a recipe of ubuntu-20.04 that names another site and signer."""
    lines = {
        "kind": "cloud-image",
        "title": "Ubuntu 20.04",
        "releases": f"{url}/releases",
        "image": IMAGE,
        "signer": signer.fingerprint,
        "keyring": str(signer.keyring),
        "keyring_package": "none",
    }
    text = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    (folder / "ubuntu-20.04.toml").write_text(text, encoding="utf-8")


def pin(path: Path, release: str, sha256: str) -> Path:
    """Write a lock that pins ubuntu-20.04."""
    found = read_lock()
    fields = {**vars(found), "ubuntu": (("ubuntu-20.04", UbuntuRelease(release, sha256)),)}
    write_lock(type(found)(**fields), path)
    return path


class _Handler(SimpleHTTPRequestHandler):
    """Serves files, and cuts those short whose name is marked in the server."""

    cut_short = False

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def copyfile(self, source: object, outputfile: object) -> None:
        content = source.read()  # type: ignore[attr-defined]
        if self.cut_short and self.path.endswith(".img"):
            content = content[: len(content) // 2]
        outputfile.write(content)  # type: ignore[attr-defined]


@contextmanager
def served(folder: Path, *, cut_short: bool = False) -> Iterator[str]:
    """Serve a folder over HTTP and yield its address; images break off half-way if asked to."""
    handler = type("Handler", (_Handler,), {"cut_short": cut_short})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
