"""What compose.yaml promises: ports, rights, limits, and no secret in sight."""

import re
from typing import Any

import pytest
import yaml
from mlflow_bakery_machine.environment import parse_environment
from mlflow_bakery_machine.render import COLLATION, MLFLOW, MYSQL, TRAEFIK, compose_variables

from tests.unit.machine.samples import IMAGES, ROOT, environment_text

TEXT = (ROOT / "compose/compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
TOOLS = {name for name, service in SERVICES.items() if service.get("profiles")}
EACH = pytest.mark.parametrize("name", sorted(SERVICES))


def test_only_traefik_is_published() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"traefik": ["80:8080", "443:8443"]}


def test_the_docker_socket_is_nowhere() -> None:
    assert "docker.sock" not in TEXT


@EACH
def test_limits_and_rights(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+m", service["mem_limit"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["read_only"] is True
    assert "privileged" not in service
    assert service["pull_policy"] == "never"
    assert service["logging"]["driver"] == "local"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@EACH
def test_nobody_is_root(name: str) -> None:
    users = {
        "mysql": MYSQL,
        "scratch": MYSQL,
        "mlflow": MLFLOW,
        "migrate": MLFLOW,
        "blob": MLFLOW,
        "gc": MLFLOW,
        "traefik": TRAEFIK,
    }
    assert SERVICES[name]["user"] == f"{users[name]}:{users[name]}"


@EACH
def test_health_and_restart(name: str) -> None:
    service = SERVICES[name]
    if name == "migrate" or name in TOOLS:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
        return
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["start_interval"] == "1s"
    assert service["healthcheck"]["test"][0] == "CMD"


@EACH
def test_mounts_are_never_made_up(name: str) -> None:
    for mount in SERVICES[name]["volumes"]:
        assert mount["type"] == "bind"
        assert mount["bind"] == {"create_host_path": False}
        secret = mount["source"].startswith(("/run/mlflow-bakery", "/usr/share"))
        writable = mount["source"] == "/run/mlflow-bakery/migration" and name == "migrate"
        assert mount.get("read_only", False) == (secret and not writable)


@EACH
def test_no_secret_in_environment_arguments_or_labels(name: str) -> None:
    service = SERVICES[name]
    assert "labels" not in service
    assert "env_file" not in service
    words = str([service.get("environment", {}), service.get("command"), service["entrypoint"]])
    assert not re.search(r"password|passwd|secret_|key=|token|connection_string", words.lower())
    assert set(re.findall(r"\$\{(\w+)", words)) <= {
        *("MLFLOW_HOSTNAME", "MLFLOW_ARTIFACTS", "MLFLOW_BACKUPS")
    }


def test_each_variable_is_rendered() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    text = compose_variables(parse_environment(environment_text(), "test"), IMAGES)
    assert used == {line.split("=", 1)[0] for line in text.splitlines()}


def test_the_database_is_reached_from_inside_only() -> None:
    assert COMPOSE["networks"]["db"] == {"internal": True}
    assert SERVICES["mysql"]["networks"] == ["db"]
    assert SERVICES["traefik"]["networks"] == ["edge", "front"]


def test_each_way_out_is_one_container_s_and_only_mlflow_s_leads_to_the_metadata_service() -> None:
    ways = {name for name, one in COMPOSE["networks"].items() if not one.get("internal")}
    used = {name: ways & set(one.get("networks", [])) for name, one in SERVICES.items()}
    assert used["mlflow"] == used["blob"] == used["gc"] == {"out"}
    assert used["traefik"] == {"edge"}
    assert used["mysql"] == used["migrate"] == used["scratch"] == set()
    bridge = COMPOSE["networks"]["out"]["driver_opts"]["com.docker.network.bridge.name"]
    unit = (ROOT / "packer/files/etc/systemd/system/mlflow-metadata.service").read_text()
    assert f"! --in-interface {bridge} --destination 169.254.169.254 --jump DROP" in unit


def test_the_tools_do_not_run_with_the_server() -> None:
    assert sorted(TOOLS) == ["blob", "gc", "scratch"]
    assert SERVICES["scratch"]["network_mode"] == "none"
    assert "networks" not in SERVICES["scratch"]
    assert SERVICES["blob"]["networks"] == ["out"]


def test_mlflow_is_set_up_as_the_facts_demand() -> None:
    found = SERVICES["mlflow"]["environment"]
    assert found["MLFLOW_WORKERS"] == "2"
    assert found["MLFLOW_DISABLE_TELEMETRY"] == found["DO_NOT_TRACK"] == "true"
    assert found["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert found["MLFLOW_ENABLE_AI_GATEWAY"] == "false"
    assert found["MLFLOW_SERVER_ALLOWED_HOSTS"].count("MLFLOW_HOSTNAME") == 2
    assert found["MLFLOW_SERVER_ALLOWED_HOSTS"].endswith(":*,mlflow:5000")
    assert found["TMPDIR"] == "/spool"
    assert "FORWARDED_ALLOW_IPS" not in TEXT
    regex = found["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"]
    assert all(re.match(regex, f"{scheme}:/x") for scheme in ("mlflow-artifacts", "runs", "models"))
    assert not re.match(regex, "file:/etc/passwd")


def test_memory_fits_a_machine_of_4_gib() -> None:
    limits = {name: int(service["mem_limit"][:-1]) for name, service in SERVICES.items()}
    # The migration is over before the server runs; of the tools one runs at a time.
    serving = sum(limits[name] for name in ("mysql", "mlflow", "traefik"))
    others = [limit for name, limit in limits.items() if name in {"migrate", *TOOLS}]
    assert serving + max(others) < 3500


def test_traefik_is_quiet_and_closed() -> None:
    static = yaml.safe_load((ROOT / "compose/traefik/traefik.yaml").read_text())
    assert "api" not in static
    assert static["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert set(static["providers"]) == {"file", "providersThrottleDuration"}
    assert static["entryPoints"]["ping"]["address"].startswith("127.0.0.1:")
    timeouts = static["entryPoints"]["websecure"]["transport"]["respondingTimeouts"]
    assert timeouts["readTimeout"] == "15m"
    assert static["entryPoints"]["web"]["http"]["redirections"]["entryPoint"]["to"] == ":443"
    assert static["accessLog"]["fields"]["headers"]["defaultMode"] == "drop"


def test_one_collation_in_all_places() -> None:
    for path in ("compose/mysql/my.cnf", "compose/mlflow/migrate.py"):
        assert COLLATION in (ROOT / path).read_text()
