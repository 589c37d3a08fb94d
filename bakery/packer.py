"""Packer: which one, which plugins, running it, and what its log tells."""

import functools
import os
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from bakery.errors import BakeryError, InputError
from bakery.run import run, tail

Version = tuple[int, ...]
_AZURE_PACKER: Version = (1, 10, 0)
_AZURE_PLUGIN: Version = (2, 2, 0)
# The newest that the recipe's options were compared with.
_AZURE_PLUGIN_KNOWN = "2.6.3"
_PLUGIN = re.compile(r"packer-plugin-azure_v(\d+)\.(\d+)\.(\d+)_")
_STAMP = re.compile(r"^(\S+) (==>|    ) \S+: Provisioning with shell script: \S*/(\S+)\.sh")
_ERRORED = re.compile(r"Build '\S+' errored(?: after [^:]*)?: (.*)")


def find_packer() -> tuple[str, Version]:
    """Return HashiCorp's Packer and its version; cracklib has a program of the same name.

    Raises:
        InputError: There is none.
    """
    return _found(os.environ.get("PATH", ""))


@functools.cache
def _found(path: str) -> tuple[str, Version]:
    for folder in path.split(os.pathsep):
        candidate = shutil.which("packer", path=folder)
        if candidate is None:
            continue
        found = re.match(r"Packer v(\d+)\.(\d+)\.(\d+)", _said(candidate, "version"))
        if found:
            return candidate, tuple(int(number) for number in found.groups())
    raise InputError("packer is missing: it bakes the image", hint="apt-get install packer")


def check_for_azure() -> None:
    """Refuse a Packer that cannot bake on Azure as it is today.

    Raises:
        InputError: With the reason and where to get a newer one.
    """
    packer, version = find_packer()
    if version < _AZURE_PACKER:
        raise InputError(
            f"{packer} is Packer {_dotted(version)}; Azure needs {_dotted(_AZURE_PACKER)} or newer:"
            " older ones ask for a Basic public IP, which Azure no longer makes",
            hint="install one from https://developer.hashicorp.com/packer/install"
            " and put it first on PATH",
        )


def check_azure_plugin(folder: Path) -> None:
    """Install the plugins that a recipe asks for, and refuse an Azure plugin that is too old.

    One that is there already and new enough will do where GitHub cannot be reached.

    Raises:
        InputError: With the reason and the remedy.
    """
    packer, _version = find_packer()
    done = run([packer, "init", folder], env=_environment(folder), check=False, timeout=300)
    if azure_plugin(folder) is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        why = said[-1] if said else "packer init did not install it"
        raise InputError(f"Packer has no Azure plugin: {why}", hint=_plugin_remedy(folder))


def _plugin_remedy(folder: Path) -> str:
    command = f"packer plugins install github.com/hashicorp/azure {_AZURE_PLUGIN_KNOWN}"
    return f"with PACKER_PLUGIN_PATH={plugin_path(folder)}: {command}"


def install_plugins(folder: Path) -> None:
    """Install the plugins that a recipe asks for; an old Packer has its own built in.

    Raises:
        BakeryError: They cannot be had.
    """
    packer, version = find_packer()
    if version >= (1, 7):
        run([packer, "init", folder], env=_environment(folder))


def azure_plugin(folder: Path) -> str | None:
    """Return the version of the newest Azure plugin that a recipe's Packer finds, or None.

    Raises:
        InputError: It is too old; with the remedy.
    """
    packer, _version = find_packer()
    said = run([packer, "plugins", "installed"], env=_environment(folder), check=False, timeout=60)
    known = [tuple(int(n) for n in one.groups()) for one in _PLUGIN.finditer(said.stdout)]
    if not known:
        return None
    newest = max(known)
    if newest < _AZURE_PLUGIN:
        raise InputError(
            f"Packer's Azure plugin is {_dotted(newest)}; {_dotted(_AZURE_PLUGIN)} or newer is"
            " needed: older ones ask for a Basic public IP, which Azure no longer makes",
            hint=_plugin_remedy(folder),
        )
    return _dotted(newest)


def plugin_path(folder: Path) -> str:
    """Return where plugins lie: the user's own place, or one that outlives a bake's folder."""
    return os.environ.get("PACKER_PLUGIN_PATH") or str(folder.parents[1] / "packer-plugins")


def format_recipe(folder: Path) -> None:
    """Let Packer lay out the rendered files as it likes them."""
    run([find_packer()[0], "fmt", folder], env=_environment(folder))


def check_syntax(folder: Path) -> None:
    """Let Packer check the language of a recipe only, whichever plugins it has.

    Raises:
        BakeryError: It refuses the recipe.
    """
    run([find_packer()[0], "validate", "-syntax-only", folder], env=_environment(folder))


def validate(
    folder: Path, secrets: Mapping[str, str] | None = None, trust: Path | None = None
) -> None:
    """Let Packer check a rendered recipe in full; the rest is as in `build`.

    Raises:
        BakeryError: It refuses the recipe.
    """
    packer, _version = find_packer()
    run([packer, "validate", folder], env=_environment(folder, secrets, trust))


def build(
    folder: Path,
    log: Path,
    secrets: Mapping[str, str] | None = None,
    trust: Path | None = None,
) -> None:
    """Build a recipe; all of Packer's output goes to `log`.

    `secrets` are variables of the recipe; they go by the environment, never by argv. `trust` is a
    file (PEM) of the authorities to trust, in the place of the system's.

    Raises:
        BakeryError: A step of it failed; says Packer's reason and shows the tail of the log.
    """
    packer, _version = find_packer()
    words: list[str | Path]
    words = [packer, "build", "-color=false", "-timestamp-ui", "-on-error=cleanup", folder]
    done = run(words, env=_environment(folder, secrets, trust), log=log, check=False)
    if done.returncode != 0:
        reason = failure(log) or f"packer failed with code {done.returncode}"
        raise BakeryError(
            reason, hint="the end of the bake's log is shown", log=log, tail=tail(log)
        )


def failure(log: Path) -> str:
    """Return Packer's own reason for the end of the last build in a log, in one line."""
    found = _ERRORED.findall(log.read_text(encoding="utf-8", errors="replace"))
    return found[-1].strip() if found else ""


def provision_timings(log: Path) -> list[tuple[str, float]]:
    """Return how long each provisioning script took, in seconds, read from Packer's log."""
    stamps: list[tuple[str, datetime]] = []
    last = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        moment = _moment(line)
        last = moment or last
        found = _STAMP.match(line)
        if found and moment:
            stamps.append((found.group(3), moment))
    ends = [moment for _, moment in stamps[1:]] + [last] * bool(stamps)
    return [
        (f"provision {name}", (end - begun).total_seconds())
        for (name, begun), end in zip(stamps, ends, strict=True)
        if end
    ]


def _moment(line: str) -> datetime | None:
    try:
        return datetime.fromisoformat(line.partition(" ")[0].rstrip(":"))
    except ValueError:
        return None


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _said(packer: str, *words: str) -> str:
    return run([packer, *words], check=False, env={"CHECKPOINT_DISABLE": "1"}, timeout=30).stdout


def _environment(
    folder: Path, secrets: Mapping[str, str] | None = None, trust: Path | None = None
) -> dict[str, str]:
    # The first is for `packer init`, the second for the plugin's sign-in through `az`.
    kept = ("PACKER_GITHUB_API_TOKEN", "AZURE_CONFIG_DIR")
    return {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CACHE_DIR": str(folder / "cache"),
        "PACKER_PLUGIN_PATH": plugin_path(folder),
        **{name: os.environ[name] for name in kept if name in os.environ},
        **({"SSL_CERT_FILE": str(trust)} if trust else {}),
        **{f"PKR_VAR_{name}": value for name, value in (secrets or {}).items()},
    }
