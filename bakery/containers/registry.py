"""Container images from a registry, by digest, with skopeo."""

from dataclasses import dataclass
from pathlib import Path

from bakery.containers.archive import Image, read_archive
from bakery.errors import BakeryError, InputError
from bakery.pins import RegistryImage
from bakery.run import need, run

_DEADLINE = 5.0
_COPY_DEADLINE = 1800.0


@dataclass(frozen=True)
class Registry:
    """A registry that speaks the distribution protocol, such as docker.io."""

    host: str
    tls_verify: bool = True

    def address(self, image: RegistryImage) -> str:
        """Return the image's name in this registry, with its digest."""
        return f"{self.host}/{image.repository}@{image.digest}"

    def digest(self, image: RegistryImage) -> str:
        """Return the digest that the image's tag has now.

        Raises:
            InputError: The registry cannot be reached, or has no such image.
        """
        name = f"{self.host}/{image.repository}:{image.tag}"
        return self._inspect(name, ["--format", "{{.Digest}}"]).strip()

    def check(self, image: RegistryImage) -> None:
        """See, within seconds, that the registry has this image.

        Raises:
            InputError: The registry cannot be reached, or has no such image.
        """
        self._inspect(self.address(image), ["--raw"])

    def fetch(self, image: RegistryImage, work: Path) -> Image:
        """Copy an image by its digest and take it apart in the directory `work`.

        Raises:
            InputError: The lock has no digest, or the registry has no image of that digest.
            BakeryError: What came is not what was named.
        """
        archive = work / "registry.tar"
        done = run(
            [
                *(_skopeo(), "copy", "--quiet", "--override-os", "linux", "--override-arch"),
                *("amd64", f"--src-tls-verify={_flag(self.tls_verify)}"),
                *(f"docker://{self.address(image)}", f"docker-archive:{archive}"),
            ],
            check=False,
            timeout=_COPY_DEADLINE,
        )
        if done.returncode != 0:
            raise _refusal(self.address(image), done.stderr)
        found = read_archive(archive, work / "layers")
        archive.unlink()
        return found

    def _inspect(self, name: str, options: list[str]) -> str:
        tls = f"--tls-verify={_flag(self.tls_verify)}"
        argv = [_skopeo(), "inspect", "--no-tags", tls, *options, f"docker://{name}"]
        try:
            done = run(argv, check=False, timeout=_DEADLINE)
        except InputError:
            raise
        except BakeryError as late:
            raise _refusal(name, f"no answer within {_DEADLINE:.0f} s") from late
        if done.returncode != 0:
            raise _refusal(name, done.stderr)
        return done.stdout


def _flag(value: bool) -> str:
    return str(value).lower()


def _skopeo() -> str:
    return need("skopeo", package="skopeo", why="it copies container images from a registry")


def _refusal(name: str, said: str) -> InputError:
    lines = said.strip().splitlines() or ["no reason given"]
    # skopeo logs "... msg="reason""; the reason's last part is the cause.
    reason = lines[-1].rpartition('msg="')[2].rstrip('"').rpartition(": ")[2]
    return InputError(
        f"{name} cannot be had: {reason}",
        hint="is the registry reachable? source = packages needs none; "
        "./inv lock resolves the digests anew",
    )
