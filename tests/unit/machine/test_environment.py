import pytest
from mlflow_bakery_machine.environment import Environment, choose_environment, parse_environment
from mlflow_bakery_machine.files import MachineError

from tests.unit.machine.samples import environment_data, environment_text


def environment(serial: int, **changes: object) -> Environment:
    return parse_environment(environment_text(serial=serial, **changes), "test")


def test_the_higher_serial_counts_whoever_has_it() -> None:
    old, new = environment(1), environment(2)
    assert choose_environment(new, old) is new
    assert choose_environment(old, new) is new


def test_at_equal_serials_the_data_disk_counts() -> None:
    brought, kept = environment(3), environment(3)
    assert choose_environment(brought, kept) is kept


def test_one_copy_is_enough() -> None:
    only = environment(1)
    assert choose_environment(only, None) is only
    assert choose_environment(None, only) is only


def test_no_copy_is_said() -> None:
    with pytest.raises(MachineError, match="cloud-init did not bring one"):
        choose_environment(None, None)


def test_copies_of_two_disks_are_not_mixed() -> None:
    other = environment(2, data_disk={"uuid": "0" * 8, "first": False})
    with pytest.raises(MachineError, match="data disk"):
        choose_environment(environment(1), other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "schema 1"),
        (environment_text(schema=2), "schema 1"),
        (environment_text(users=["a"]), "wrong type"),
        (environment_text(storage={"account": "a"}), "container"),
        (environment_text(tls=None), "exactly one of tls and acme"),
        (
            environment_text(
                storage={"account": "a", "container": "c", "key": None, "blob_endpoint": None}
            ),
            "exactly one of storage key and client id",
        ),
        (environment_text(acme={"email": "a@b.c", "directory": "d"}), "exactly one"),
    ],
)
def test_what_cannot_be_used_is_said(text: str, message: str) -> None:
    with pytest.raises(MachineError, match=message):
        parse_environment(text, "the file")


def test_no_secret_is_in_a_message_or_a_repr() -> None:
    data = environment_data(mysql={"user": "u", "password": "hunter2"})
    assert "hunter2" not in repr(parse_environment(environment_text(**data), "test"))
    broken = environment_text(**data)[:-1]
    with pytest.raises(MachineError) as error:
        parse_environment(broken, "test")
    assert "hunter2" not in str(error.value)
    assert error.value.__suppress_context__
