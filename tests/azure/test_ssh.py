"""Commands in machines over SSH where a range is open, by Run Command where it is not."""

import shutil
from collections.abc import Callable
from functools import partial

import pytest

from bakery import users
from bakery.backup import backup
from bakery.deploy import destroy, rollback
from bakery.errors import InputError
from bakery.inside import logs
from bakery.state import Generation
from bakery.status import status
from bakery.targets.base import Answer
from tests.azure import sshd
from tests.azure.stage import Stage

OURS, THEIRS = "127.0.0.0/8", "203.0.113.0/24"
# In the process that SSH has for this connection, however deep below it the command runs.
BREAK_OFF = """
echo once >>/run/mlflow-bakery/marker; p=$$
while [ "$(cat /proc/$p/comm)" != sshd ]; do p=$(cut -d' ' -f4 /proc/$p/stat); done
kill -9 $p; sleep 5
"""


@pytest.fixture
def opened(make_stage: Callable[..., Stage], ssh_server: sshd.Program) -> Stage:
    """A server that is deployed, whose SSH this host may reach."""
    stage = make_stage().told(azure_ssh_sources=OURS)
    stage.machines.sshd = ssh_server
    stage.deploy()
    return stage


def execute(stage: Stage, *words: str, stdin: str | None = None) -> Answer:
    target = stage.seen()
    generation = target.deployment.generation
    assert isinstance(generation, Generation)
    return target.execute(generation, list(words), stdin=stdin)


def commands(stage: Stage, action: Callable[[], object]) -> int:
    """Return how many times an action used Run Command."""
    made = stage.calls(action)
    return len([one for one in made if one.startswith("PUT") and "/runCommands/" in one])


def test_commands_go_over_ssh_and_nothing_of_them_through_azure(opened: Stage) -> None:
    assert execute(opened, "true").code == 0  # the host key is asked for once
    answers: list[Answer] = []
    script = "cat; id -un; echo e >&2; exit 4"
    ask = partial(execute, opened, "sh", "-c", script, stdin="s'\"\né\n")
    assert commands(opened, lambda: answers.append(ask())) == 0
    assert answers == [Answer(4, "s'\"\né\nbakery\n", "e\n")]
    assert commands(opened, lambda: execute(opened.colleague(), "true")) == 1
    assert commands(opened, lambda: execute(opened.colleague(), "true")) == 0


def test_every_day_over_ssh(opened: Stage) -> None:
    def work() -> None:
        assert status(opened.settings)["state"] == "ready"
        users.change(opened.settings, password=True, storage_key=True)

    assert commands(opened, work) == 0
    opened.check_tidy()
    assert opened.answers() == 200


def test_a_replacement_over_ssh_and_back(opened: Stage) -> None:
    opened.log_run("over ssh")
    opened.deploy(replace=True)
    opened.check_tidy()
    rollback(opened.settings)
    opened.check_tidy()
    assert "over ssh" in opened.runs()


def test_where_ssh_is_closed_to_this_host_run_command_is_used(
    opened: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    other = opened.told(azure_ssh_sources=THEIRS)
    other.deploy()
    answers: list[Answer] = []
    assert commands(other, lambda: answers.append(execute(other, "echo", "here"))) == 1
    assert answers == [Answer(0, "here\n", "")]
    assert "SSH is closed to this host" in capfd.readouterr().err
    assert other.seen().server().access is None
    nobody = opened.told(azure_ssh_sources=None)
    nobody.deploy()
    [group] = opened.fake.world.of_type("Microsoft.Network/networkSecurityGroups")
    names = {rule["name"] for rule in group["properties"]["securityRules"]}
    assert names == {"bakery-https", "bakery-http"}
    with pytest.raises(InputError, match="no SSH is open"):
        _ = nobody.seen().server().login


def test_to_ask_for_the_server_does_not_log_in(opened: Stage) -> None:
    opened.machines.sshd = None
    assert commands(opened, lambda: opened.colleague().seen().server()) == 0


def test_a_machine_of_the_same_name_has_another_host_key(opened: Stage) -> None:
    assert execute(opened, "true").code == 0
    destroy(opened.settings, with_data=True)
    opened.bake("20261126-100000-aaaaaaaa")
    opened.deploy()
    assert opened.seen().server().access is not None
    assert execute(opened, "true").code == 0


def test_somebody_in_the_middle_is_not_talked_to(
    opened: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(opened, "true").code == 0
    [vm] = opened.fake.world.of_type("Microsoft.Compute/virtualMachines")
    opened.machines.restart_ssh(opened.fake.machine(vm))
    assert commands(opened, lambda: execute(opened, "true")) == 1
    assert "lets nobody in by SSH" in capfd.readouterr().err


def test_what_broke_off_is_not_done_again(opened: Stage) -> None:
    assert execute(opened, "true").code == 0
    answers: list[Answer] = []
    cut = partial(execute, opened, "sh", "-c", BREAK_OFF)
    assert commands(opened, lambda: answers.append(cut())) == 0
    assert answers[0].code == 255
    assert execute(opened, "cat", "/run/mlflow-bakery/marker").out == "once\n"


def test_a_colleague_and_a_lost_folder(opened: Stage) -> None:
    shutil.rmtree(opened.settings.state_dir / "azure")
    assert execute(opened, "true").code == 0
    other = opened.colleague()
    assert execute(other, "true").code == 0
    kept = sorted(one.name for one in (other.settings.state_dir / "azure").rglob("*"))
    assert [one for one in kept if one.startswith("known_hosts")]
    backup(opened.settings)
    assert logs(other.settings, "machine") == 0
