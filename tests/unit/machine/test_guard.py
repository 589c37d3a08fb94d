import subprocess
from pathlib import Path

import pytest
from mlflow_bakery_machine import guard
from mlflow_bakery_machine.files import MachineError
from mlflow_bakery_machine.guard import Action, Probe, choose_device, decide, mke2fs_version

from tests.unit.machine.samples import UUID

OURS = {"TYPE": "ext4", "UUID": UUID, "LABEL": guard.LABEL}
HALF = {**OURS, "LABEL": guard.UNFINISHED}
FOREIGN = {"TYPE": "xfs", "UUID": "0" * 36}


def probe(facts: dict[str, str], device: str = "/dev/x") -> Probe:
    return Probe(device, facts)


@pytest.mark.parametrize(
    ("facts", "first", "action"),
    [
        ({}, True, Action.FORMAT),
        (OURS, True, Action.MOUNT),
        (OURS, False, Action.MOUNT),
        ({**OURS, "UUID": UUID.upper()}, False, Action.MOUNT),
        (HALF, True, Action.FORMAT),
    ],
)
def test_what_is_ours_is_made_once_and_mounted(
    facts: dict[str, str], first: bool, action: Action
) -> None:
    assert decide(probe(facts), uuid=UUID, first=first) is action


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "facts",
    [
        FOREIGN,
        {"TYPE": "ext4", "UUID": "0" * 36},
        {"TYPE": "ext4", "UUID": "0" * 36, "LABEL": guard.UNFINISHED},
        {"TYPE": "xfs", "UUID": UUID},
        {"PTTYPE": "gpt"},
        {"TYPE": "LVM2_member", "UUID": "a-b"},
        {"AMBIVALENT": "several signatures"},
        {"USAGE": "other"},
    ],
)
def test_a_foreign_disk_is_refused_first_boot_or_not(facts: dict[str, str], first: bool) -> None:
    with pytest.raises(MachineError, match="not touched"):
        decide(probe(facts), uuid=UUID, first=first)


@pytest.mark.parametrize("facts", [{}, HALF])
def test_an_empty_disk_is_no_replacement_for_data(facts: dict[str, str]) -> None:
    with pytest.raises(MachineError, match="not touched"):
        decide(probe(facts), uuid=UUID, first=False)


def test_among_several_disks_ours_is_taken_or_none() -> None:
    ours, other = probe(OURS, "/dev/a"), probe(FOREIGN, "/dev/b")
    assert choose_device([other, ours], UUID) is ours
    assert choose_device([other], UUID) is other
    with pytest.raises(MachineError, match="/dev/b, /dev/c"):
        choose_device([other, probe({}, "/dev/c")], UUID)
    with pytest.raises(MachineError, match="more than one"):
        choose_device([ours, probe(OURS, "/dev/c")], UUID)


@pytest.mark.parametrize(
    ("code", "output", "facts"),
    [
        (0, f"DEVNAME=/dev/x\nLABEL=a b=c\nUUID={UUID}\n", {"LABEL": "a b=c", "UUID": UUID}),
        (2, "", {}),
        (8, "", {"AMBIVALENT": "several signatures"}),
    ],
)
def test_what_blkid_says(
    code: int, output: str, facts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "disk"
    device.write_bytes(bytes(8192))
    done = subprocess.CompletedProcess[str]([], code, output, "")
    monkeypatch.setattr(guard, "_run", lambda _: done)
    assert guard.probe_device(str(device)).facts == facts


def test_a_disk_that_cannot_be_read_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess[str]([], 2, "", "error reading")
    monkeypatch.setattr(guard, "_run", lambda _: done)
    with pytest.raises(MachineError, match="cannot be probed"):
        guard.probe_device("/nowhere")


def test_two_names_of_one_device_are_one_and_files_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert guard.find_devices([str(tmp_path / "file"), str(tmp_path / "missing")]) == []


def test_the_version_decides_about_a_feature() -> None:
    assert mke2fs_version("mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS") == (1, 47)
    assert mke2fs_version("mke2fs 1.45.5 (07-Jan-2020)") < (1, 47)
    with pytest.raises(MachineError):
        mke2fs_version("")


def test_the_size_of_a_file_system() -> None:
    text = "Inode count: 9\nBlock count:              262144\nBlock size:               4096\n"
    assert guard.file_system_size(text) == (262144, 4096)
    with pytest.raises(MachineError):
        guard.file_system_size("Block size: 4096")


@pytest.mark.parametrize(
    ("mib", "mounted", "done"),
    [
        (64, False, []),
        (64, True, []),
        (65, False, [["e2fsck", "-p", "-f"], ["resize2fs"]]),
        (65, True, [["resize2fs"]]),
    ],
)
def test_a_file_system_grows_with_its_device(
    monkeypatch: pytest.MonkeyPatch, mib: int, mounted: bool, done: list[list[str]]
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        asked.append(command[:-1])
        said = {"dumpe2fs": "Block count: 16384\nBlock size: 4096\n", "blockdev": f"{mib << 20}\n"}
        return subprocess.CompletedProcess[str](command, 0, said.get(command[0], ""), "")

    monkeypatch.setattr(guard, "_run", run)
    guard.grow("/dev/x", mounted=mounted)
    assert asked[2:] == done


def test_a_refusal_is_loud_and_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main(["--environment", str(tmp_path / "none")]) == 1
    assert "REFUSED" in capsys.readouterr().err
