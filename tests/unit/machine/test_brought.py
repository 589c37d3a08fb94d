"""The host's side and the machine's side agree on the environment."""

from mlflow_bakery_machine.environment import parse_environment

from bakery.environment import user_data
from tests.unit.test_environment import brought, values


def test_the_machine_understands_what_cloud_init_brings() -> None:
    found = parse_environment(brought(user_data(values(), 7)), "test")
    assert found.serial == 7
    assert found.hostname == "mlflow.bakery.internal"
    assert list(found.users) == ["mlflow"]
