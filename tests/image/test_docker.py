"""Docker, the three images, and the containers as they run."""

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.image.probes import RUN, SHARE, lines, said

SERVICES = {"mysql", "mlflow", "traefik"}
Containers = dict[str, dict[str, Any]]


def test_docker_engine_and_compose_are_new_enough(host: Host) -> None:
    engine = said(host, "docker version --format '{{.Server.Version}}'")
    compose = said(host, "docker compose version --short")
    assert int(engine.split(".")[0]) >= 20
    assert int(compose.removeprefix("v").split(".")[0]) >= 2


def test_images_are_those_of_the_manifest(host: Host, manifest: dict[str, Any]) -> None:
    wanted = {one["reference"]: one["image_id"] for one in manifest["containers"]}
    recorded = json.loads(said(host, f"cat {SHARE}/images.json"))
    assert {one["reference"]: one["image_id"] for one in recorded.values()} == wanted
    assert {one["name"] for one in manifest["containers"]} == SERVICES
    found = {name: image_id(host, name) for name in wanted}
    assert found == wanted
    # The control: this probe does not find just anything.
    assert image_id(host, "mlflow-bakery/none:0") == ""


def image_id(host: Host, reference: str) -> str:
    done = host.run("docker image inspect --format '{{.Id}}' %s", reference)
    return str(done.stdout).strip() if done.rc == 0 else ""


def test_services_run_from_these_images(running: Containers, manifest: dict[str, Any]) -> None:
    wanted = {one["name"]: one["image_id"] for one in manifest["containers"]}
    assert {name: one["Image"] for name, one in running.items()} == wanted


def test_services_are_healthy_and_did_not_restart(running: Containers) -> None:
    assert {
        name: one["State"]["Health"]["Status"] for name, one in running.items()
    } == dict.fromkeys(SERVICES, "healthy")
    assert {name: one["RestartCount"] for name, one in running.items()} == dict.fromkeys(
        SERVICES, 0
    )


def test_migration_ended_well(containers: Containers) -> None:
    assert set(containers) == {*SERVICES, "migrate"}
    state = containers["migrate"]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


def test_only_traefik_publishes_ports(containers: Containers) -> None:
    published = {name: host_ports(one) for name, one in containers.items()}
    # Traefik is the control of this probe.
    assert published.pop("traefik") == {"80", "443"}
    assert set(published) == {"mysql", "mlflow", "migrate"}
    assert not any(published.values())


def host_ports(container: dict[str, Any]) -> set[str]:
    bindings = (container["HostConfig"]["PortBindings"] or {}).values()
    return {one["HostPort"] for many in bindings for one in many or []}


def test_nothing_reaches_docker_itself(containers: Containers) -> None:
    assert [name for name, one in containers.items() if reaches_docker(one)] == []
    assert all(not one["HostConfig"]["Privileged"] for one in containers.values())
    for planted in ("/var/run/docker.sock", "/run/docker.sock", "/run", "/", "/var/lib/docker"):
        assert reaches_docker({"Mounts": [{"Source": planted}]}), planted
    assert any(one["Mounts"] for one in containers.values()), "the probe saw no mount at all"


def reaches_docker(container: dict[str, Any]) -> bool:
    whole = {"/", "/run", "/var", "/var/run", "/var/lib", "/var/lib/docker"}
    sources = {mount.get("Source", "") for mount in container["Mounts"]}
    return any(source in whole or "docker.sock" in source for source in sources)


def test_nobody_is_root(host: Host, running: Containers) -> None:
    declared = {name: one["Config"]["User"].split(":")[0] for name, one in running.items()}
    assert declared == {"mysql": "999", "mlflow": "1001", "traefik": "1002"}
    actual = {name: status(host, one["State"]["Pid"])["Uid"] for name, one in running.items()}
    assert {name: uids.split()[1] for name, uids in actual.items()} == declared
    # The control: the machine's first process is root by the same probe.
    assert status(host, 1)["Uid"].split()[1] == "0"


def test_nobody_can_gain_privileges(host: Host, running: Containers) -> None:
    for name, one in running.items():
        found = status(host, one["State"]["Pid"])
        assert (name, found["NoNewPrivs"], int(found["CapBnd"], 16)) == (name, "1", 0)
        assert one["HostConfig"]["ReadonlyRootfs"], name
    outside = status(host, 1)
    assert (outside["NoNewPrivs"], int(outside["CapBnd"], 16) > 0) == ("0", True)


def status(host: Host, pid: int) -> dict[str, str]:
    rows = (line.partition(":") for line in lines(host, f"cat /proc/{pid}/status"))
    return {name: value.strip() for name, _, value in rows}


def test_memory_is_limited(host: Host, running: Containers) -> None:
    config = f"--file {SHARE}/compose/compose.yaml --env-file {RUN}/compose.env"
    declared = json.loads(said(host, f"docker compose {config} config --format json"))["services"]
    limits = {name: int(one.get("mem_limit", 0)) for name, one in declared.items()}
    assert [name for name, limit in limits.items() if limit <= 0] == []
    # Some hosts of nspawn machines delegate no memory controller; Docker then drops the limit.
    if "memory" in said(host, "cat /sys/fs/cgroup/cgroup.controllers || true").split():
        applied = {name: one["HostConfig"]["Memory"] for name, one in running.items()}
        assert applied == {name: limits[name] for name in running}


def test_mysql_is_on_no_network_that_leads_out(host: Host, running: Containers) -> None:
    networks = {name: set(one["NetworkSettings"]["Networks"]) for name, one in running.items()}
    assert networks["mysql"] == {"mlflow_db"}
    assert networks["traefik"] == {"mlflow_edge", "mlflow_front"}
    internal = "docker network inspect --format '{{.Internal}}' "
    assert said(host, internal + "mlflow_db") == said(host, internal + "mlflow_front") == "true"
    assert said(host, internal + "mlflow_edge") == "false"


def test_only_mlflow_s_packets_reach_the_metadata_service(host: Host, running: Containers) -> None:
    assert dropped(host, running["traefik"]) > 0
    # The control: by the same probe MLflow's pass, whether anybody answers or not.
    assert dropped(host, running["mlflow"]) == 0
    # MySQL has no route at all, where Traefik would have waited for an answer.
    refusal = ask_metadata(host, running["mysql"])
    assert "unreachable" in refusal, refusal


def ask_metadata(host: Host, container: dict[str, Any]) -> str:
    """Send a packet to the metadata service from a container's network; what the shell says."""
    probe = "timeout 1 bash -c ': </dev/tcp/169.254.169.254/80'"
    pid = container["State"]["Pid"]
    return str(host.run(f"nsenter --target {pid} --net {probe}").stderr)


def dropped(host: Host, container: dict[str, Any]) -> int:
    """Return how many packets of a container to the metadata service were dropped."""
    before = dropped_so_far(host)
    ask_metadata(host, container)
    return dropped_so_far(host) - before


def dropped_so_far(host: Host) -> int:
    rows = lines(host, "iptables --wait --list DOCKER-USER --numeric --verbose --exact")
    counts = [row.split()[0] for row in rows if "169.254.169.254" in row]
    assert len(counts) == 1, rows
    return int(counts[0])


def test_logs_are_bounded(host: Host, containers: Containers) -> None:
    assert said(host, "docker info --format '{{.LoggingDriver}}'") == "local"
    kinds = {name: one["HostConfig"]["LogConfig"]["Type"] for name, one in containers.items()}
    assert set(kinds.values()) == {"local"}


@pytest.mark.parametrize("name", ["mysql", "mlflow", "traefik"])
def test_images_come_from_nowhere_at_run_time(name: str, host: Host) -> None:
    config = f"--file {SHARE}/compose/compose.yaml --env-file {RUN}/compose.env"
    declared = json.loads(said(host, f"docker compose {config} config --format json"))["services"]
    assert declared[name]["pull_policy"] == "never"
