"""Root file systems from Debian's archive, as this host's own apt finds it."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bakery.errors import InputError
from bakery.run import need, run

# 2026-01-01: the time of what is made here, where the real one would only make a difference.
EPOCH = 1767225600
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_HOST_APT = Path("/etc/apt")
_CODENAMES = "(buster|bullseye|bookworm|trixie|forky|duke|sid|oldstable|stable|testing|unstable)"
_MAIN = re.compile(f"^{_CODENAMES}$")
_SECURITY = re.compile(f"^{_CODENAMES}(-security|/updates)$")
_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<parts>.*)$")


@dataclass(frozen=True)
class Mirrors:
    """Where this host gets Debian from."""

    main: str
    security: str = ""

    def lines(self, suite: str) -> list[str]:
        """Return apt's one-line sources for a suite; unstable has no updates of its own."""
        lines = [f"deb {self.main} {suite} main"]
        if suite in {"sid", "unstable"}:
            return lines
        lines.append(f"deb {self.main} {suite}-updates main")
        if self.security:
            lines.append(f"deb {self.security} {suite}-security main")
        return lines


@dataclass(frozen=True)
class _Source:
    uri: str
    suite: str
    components: tuple[str, ...]


def host_mirrors(apt: Path = _HOST_APT) -> Mirrors:
    """Find the Debian archive among this host's apt sources.

    Raises:
        InputError: The host has no Debian archive reachable over HTTP or HTTPS.
    """
    usable = [
        source
        for source in _sources(apt)
        if source.uri.startswith(("http://", "https://")) and "main" in source.components
    ]
    main = [source.uri for source in usable if _MAIN.match(source.suite)]
    security = [source.uri for source in usable if _SECURITY.match(source.suite)]
    if not main:
        raise InputError(
            "this host's apt sources name no Debian archive, and building from packages needs one",
            hint=f"add one below {apt}, such as: deb http://MIRROR/debian bookworm main",
        )
    return Mirrors(main[0], security[0] if security else "")


def bootstrap(
    suite: str,
    target: Path,
    packages: Sequence[str],
    *,
    mirrors: Mirrors,
    log: Path,
    variant: str = "apt",
    excluded: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Install a suite of Debian with these packages into a new directory.

    `variant` is mmdebstrap's: "apt" can install more later, "essential" is smaller; files that
    match `excluded` are left out, as are documentation and translations. Whatever ends this
    process, even SIGKILL, ends the child too and leaves no mount behind: it runs in a process and
    mount namespace of its own.

    Raises:
        InputError: Not root, or a tool is missing.
        BakeryError: A package or the archive could not be had.
    """
    if os.geteuid() != 0:
        raise InputError("building from packages needs root", hint="run the command with sudo")
    tool = need("mmdebstrap", package="mmdebstrap", why="it installs Debian into a directory")
    left_out = [*_LEFT_OUT, *excluded]
    run(
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(tool, "--mode=root", f"--variant={variant}", "--format=directory"),
            "--architectures=amd64",
            f"--include={','.join(packages)}",
            '--aptopt=Acquire::Languages "none"',
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in left_out),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            *options,
            *(suite, target, "-"),
        ],
        # What an installation writes by itself gets this time, so that two are alike.
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        stdin="\n".join(mirrors.lines(suite)) + "\n",
        log=log,
        hint="is the Debian archive reachable? apt-get update tries it",
    )


def installed(root: Path) -> dict[str, str]:
    """Return the packages of a root file system with their versions."""
    done = run(["dpkg-query", f"--root={root}", "-W", "-f", "${Package} ${Version}\n"])
    return dict(line.split(" ", 1) for line in sorted(done.stdout.splitlines()))


def enable_networkd(root: Path) -> None:
    """Have systemd-networkd, which cloud-init writes for here, run in a root file system."""
    run(["systemctl", f"--root={root}", "enable", "systemd-networkd.service"])


def _sources(apt: Path) -> Iterator[_Source]:
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    for file in filter(Path.is_file, lists):
        yield from _one_line(file.read_text(encoding="utf-8"))
    for file in sorted((apt / "sources.list.d").glob("*.sources")):
        yield from _deb822(file.read_text(encoding="utf-8"))


def _one_line(text: str) -> Iterator[_Source]:
    for line in text.splitlines():
        found = _ONE_LINE.match(line.partition("#")[0].strip())
        if found:
            yield _Source(found["uri"], found["suite"], tuple(found["parts"].split()))


def _deb822(text: str) -> Iterator[_Source]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield _Source(uri, suite, tuple(fields.get("components", [])))


def _fields(stanza: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] not in {" ", "\t"}:
            name, _, rest = line.partition(":")
            name = name.strip().lower()
        else:
            rest = line
        fields.setdefault(name, []).extend(rest.split())
    return fields
