"""The suite of tests/image, run inside a deployed machine over SSH."""

import json
import re
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from bakery.checks.result import CheckResult, shorten
from bakery.errors import BakeryError, InputError
from bakery.run import last_lines, run
from bakery.targets.base import Server

_PROJECT = Path(__file__).parents[2]
SUITE = _PROJECT / "tests" / "image"
_DEADLINE = 300
_HOST = re.compile(r"^ssh://[^/]*?(-(?=\D)|$)")


def check_machine(server: Server, manifest: Path) -> list[CheckResult]:
    """Run the suite of tests/image over SSH and return one result per test.

    `manifest` is the file of the image that the machine should be of.

    Raises:
        InputError: The suite is not there: the package is used without its project.
        BakeryError: The suite could not be run.
    """
    if not (SUITE / "conftest.py").is_file():
        raise InputError(f"{SUITE} is missing", hint="run this from a clone of the project")
    with tempfile.TemporaryDirectory(prefix="bakery-image-") as name:
        folder = Path(name)
        facts = folder / "server.json"
        facts.write_text(json.dumps(_facts(server, manifest)), encoding="utf-8")
        report = folder / "report.xml"
        try:
            done = run(
                _pytest(server, report, folder),
                env={"BAKERY_SERVER": str(facts), "PYTHONPATH": str(_PROJECT)},
                cwd=_PROJECT,
                check=False,
                timeout=_DEADLINE,
            )
        finally:
            _hang_up(server, folder)
        if done.returncode not in {0, 1} or not report.is_file():
            raise BakeryError(
                f"the image suite could not run (pytest ended with {done.returncode})",
                hint="./inv ssh shows whether the machine answers",
                tail=last_lines(done.stdout or done.stderr),
            )
        return read_report(report)


def read_report(report: Path) -> list[CheckResult]:
    """Return the results in a JUnit file, the faulty ones with the line that says why."""
    # Written by our own pytest a moment ago, so no defence against hostile XML is needed.
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314
    return [_result(case) for case in cases]


def _result(case: ET.Element) -> CheckResult:
    # testinfra puts the machine before the parameters: test_mode[ssh://10.0.0.1-run].
    name, _, parameters = case.get("name", "").partition("[")
    parameter = _HOST.sub("", parameters.removesuffix("]"))
    name = f"{name.removeprefix('test_').replace('_', ' ')} {parameter}".strip()
    fault = next((case.find(kind) for kind in _FAULTS if case.find(kind) is not None), None)
    detail = "" if fault is None else shorten(fault.get("message") or fault.text or fault.tag)
    seconds = round(float(case.get("time", "0")), 3)
    return CheckResult(name, fault is None, detail, seconds)


# A check that was left out proves nothing, so it counts as a fault.
_FAULTS = ("failure", "error", "skipped")


def _facts(server: Server, manifest: Path) -> dict[str, str]:
    return {
        "name": server.name,
        "hostname": server.hostname,
        "data_disk_uuid": server.data_disk_uuid,
        "image_manifest": str(manifest.absolute()),
    }


def _pytest(server: Server, report: Path, folder: Path) -> list[str]:
    ssh = server.login
    return [
        *(sys.executable, "-m", "pytest", str(SUITE), "--quiet", "--tb=short"),
        *("--rootdir", str(_PROJECT), f"--junitxml={report}", "-p", "no:xdist"),
        *(f"--hosts=ssh://{ssh.user}@{ssh.host}:{ssh.port}", "--sudo"),
        f"--ssh-config={_ssh_config(server, folder)}",
    ]


def _ssh_config(server: Server, folder: Path) -> Path:
    """Write the options of our login as a file, in which all commands share one connection."""
    words = [*server.login.options[2:], *_shared(folder)]
    pairs = zip(words[::2], words[1::2], strict=True)
    options = [f"IdentityFile={value}" if key == "-i" else value for key, value in pairs]
    # Quoted: the state folder may have a blank in its name.
    lines = ['{} "{}"'.format(*option.split("=", 1)) for option in options]
    config = folder / "ssh_config"
    config.write_text("\n".join(["Host *", *lines, ""]), encoding="utf-8")
    return config


def _shared(folder: Path) -> list[str]:
    """Options that let all commands share one connection."""
    return [
        *("-o", "ControlMaster=auto", "-o", "ControlPersist=60"),
        *("-o", f"ControlPath={folder / 'ssh'}"),
    ]


def _hang_up(server: Server, folder: Path) -> None:
    """End the shared connection, which would outlive us by a minute."""
    words = ["ssh", *_shared(folder), "-O", "exit", server.login.host]
    if (folder / "ssh").exists():
        run(words, check=False, timeout=10)
