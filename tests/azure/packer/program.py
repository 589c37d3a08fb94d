"""The program: its commands as `bakery.packer` calls them, its output and codes as Packer's.

How it behaves is in `packer.json` in the folder that it is called from:
`packer` and `plugin` are the versions that it reports ("" for no plugin), `online` is whether
`init` can install one, `fail` names a phase that fails, `stuck` leaves the clean-up out.
"""

import json
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.azure.packer.template import Block


@dataclass
class Manner:
    """How the program behaves."""

    packer: str = "1.12.0"
    plugin: str = "2.6.0"
    online: bool = True
    fail: str = ""
    stuck: bool = False
    calls: list[list[str]] = field(default_factory=list)


def main(folder: Path, words: list[str]) -> int:
    """Do what Packer would do; return its exit code."""
    file = folder / "packer.json"
    manner = Manner(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else Manner()
    with (folder / "packer.calls").open("a", encoding="utf-8") as log:
        log.write(json.dumps(words) + "\n")
    return _answer(manner, [word for word in words if not word.startswith("-")])


def _answer(manner: Manner, words: list[str]) -> int:
    if words[0] == "version":
        say(f"Packer v{manner.packer}")
    elif words[:2] == ["plugins", "installed"] and manner.plugin:
        say(_plugin_path(manner.plugin))
    elif words[0] == "init":
        return _init(manner)
    elif words[0] == "validate":
        return _validate(Path(words[1]))
    elif words[0] == "build":
        return _build(Path(words[1]), manner)
    return 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _plugin_path(version: str) -> str:
    place = os.environ.get("PACKER_PLUGIN_PATH", "/root/.config/packer/plugins")
    return f"{place}/github.com/hashicorp/azure/packer-plugin-azure_v{version}_x5.0_linux_amd64"


def _init(manner: Manner) -> int:
    if manner.online or manner.plugin:
        return 0
    sys.stderr.write(
        'Failed getting the "github.com/hashicorp/azure" plugin:\n'
        "dial tcp: lookup api.github.com: no such host\n"
    )
    return 1


def _validate(folder: Path) -> int:
    from tests.azure.packer.template import problems

    found = problems(_template(folder))
    for problem in found:
        sys.stderr.write(f"Error: {problem}\n\n  on {folder}/template.pkr.hcl:\n")
    if not found:
        say("The configuration is valid.")
    return 1 if found else 0


def _template(folder: Path) -> "list[Block]":
    from tests.azure.packer.template import read

    return read((folder / "template.pkr.hcl").read_text(encoding="utf-8"))


def _build(folder: Path, manner: Manner) -> int:
    from tests.azure.packer.build import Build, BuildError

    if _validate(folder):
        return 1
    begun = datetime.now(UTC)

    def log(text: str) -> None:
        say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} ==> azure-arm.machine: {text}")

    build = Build(_template(folder), log, fail=manner.fail, stuck=manner.stuck)
    try:
        build.run()
    except BuildError as failed:
        seconds = (datetime.now(UTC) - begun).seconds
        say(f"Build 'azure-arm.machine' errored after {seconds} seconds: {failed}")
        say("\n==> Some builds didn't complete successfully and had errors:")
        say(
            f"--> azure-arm.machine: {failed}\n\n==> Builds finished but no artifacts were created."
        )
        return 1
    say("Build 'azure-arm.machine' finished.")
    return 0
