"""The training machine in Azure: a machine with a GPU, in a network of its own, no server."""

import json
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from bakery import ssh
from bakery.azure.access import port_open
from bakery.azure.errors import explained
from bakery.azure.keys import StoredKey
from bakery.azure.machines import ADMIN, Birth
from bakery.azure.manifests import known_manifest
from bakery.azure.names import IMAGE_TAG, TRAINING
from bakery.azure.operations import found
from bakery.azure.settings import has_gpu, words
from bakery.azure.training_network import TrainingNetwork
from bakery.errors import BakeryError, InputError
from bakery.manifest import Manifest
from bakery.plan import Change
from bakery.render import render
from bakery.state import write_atomically
from bakery.targets.base import SshAccess

if TYPE_CHECKING:
    from bakery.targets.azure_target import AzureTarget

_HOST_KEY = f"{TRAINING}/host_key.json"
_DOCKER_SECONDS = 60


class AzureTraining:
    """A deployment's training machine; every method can be repeated and converges."""

    def __init__(self, target: "AzureTarget") -> None:
        self._target = target
        self._azure = target.azure
        self._machines = target.machines
        self.net = TrainingNetwork(target.azure)

    # -- looking ---------------------------------------------------------------------------------

    @property
    def image(self) -> str:
        """The image that it was made from; empty when there is no such machine."""
        vm = self._machines.find(TRAINING)
        # One that Azure failed to make is none: it is made anew, of another size perhaps.
        if vm is None or str(vm.provisioning_state) == "Failed":
            return ""
        return str((vm.tags or {}).get(IMAGE_TAG, ""))

    @cached_property
    def access(self) -> SshAccess:
        """How to log in, with a key that opens no other machine.

        Raises:
            BakeryError: The machine does not tell its host key.
        """
        key = self._key
        key.public()
        known_hosts = key.file.with_name("known_hosts")
        address = self.net.address()
        write_atomically(known_hosts, f"{address} {self._host_key()}\n")
        return SshAccess(host=address, user=ADMIN, key=key.file, known_hosts=known_hosts)

    @property
    def docker_host(self) -> str:
        """What DOCKER_HOST and `train --where` say to train on it."""
        return f"ssh://{ADMIN}@{self.net.address()}"

    def running(self) -> bool:
        """Return whether the machine runs."""
        return self._machines.running(TRAINING)

    def ready(self) -> bool:
        """Return whether its Docker answers over SSH."""
        if not port_open(self.net.address()):
            return False
        try:
            # As the user of the key: cloud-init may not have let it into Docker's group yet.
            return ssh.command(self.access, ["docker", "version"], timeout=20).returncode == 0
        except InputError:
            raise
        except BakeryError:  # too slow while it boots: it is asked again
            return False

    def status(self) -> dict[str, Any] | None:
        """Return what `status` tells of it; None when there is no such machine."""
        vm = self._machines.find(TRAINING)
        if vm is None:
            return None
        return {
            "state": "running" if self.running() else "stopped",
            "image": str((vm.tags or {}).get(IMAGE_TAG, "")),
            "size": str(vm.hardware_profile.vm_size),
            "docker_host": self.docker_host,
        }

    def drift(self) -> Iterator[str]:
        """Give what is not as it was made; nothing where there is no such machine."""
        if not self._azure.settings.azure_ssh_sources or self._machines.find(TRAINING) is None:
            return
        for one in self.net.wanted:
            action, _ = one.state(self._azure.names)
            if action:
                yield f"{one.title} {'is gone' if action == 'create' else 'was changed'}"

    def plan(self, image: Manifest, *, replace: bool) -> list[Change]:
        """Return what a deploy of it would do; nothing is written."""
        rows = []
        for one in self.net.wanted:
            action, _ = one.state(self._azure.names)
            title = one.title.removeprefix("the ")
            if action == "create":
                rows.append(Change("create", title))
            elif action:
                rows.append(Change("change", title, "it is not as it should be"))
        name, now = f"machine {self._azure.names.machine(TRAINING)}", self.image
        if now == image.id and not replace:
            return rows if self.running() else [*rows, Change("change", name, "it is stopped")]
        if now:
            rows.append(Change("delete", name, f"it is of {now}; what lies on it goes with it"))
        size = words(self._azure.settings.azure_training_sizes)[0]
        why = "there is none yet" if not now else "asked for" if now == image.id else ""
        return [*rows, Change("create", f"{name} ({size}) of image {image.id}", why)]

    @explained("see what would be done")
    def removal_plan(self) -> list[Change]:
        """Return what its removal would do; nothing is written."""
        names, compute = self._azure.names, self._azure.clients.compute
        machine = ("machine", names.machine(TRAINING), compute.virtual_machines)
        rows = []
        for kind, name, client in (machine, *self._parts):
            model = found(partial(client.get, self._azure.group, name))
            if model is not None and names.owns(model.tags):
                with_disk = " with its disk" if kind == "machine" else ""
                rows.append(Change("delete", f"{kind} {name}{with_disk}"))
        return rows

    # -- making ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse a machine that nobody could reach.

        Raises:
            InputError: No range of addresses may reach SSH.
        """
        _ = self.net.sources

    def choose_image(self, image: str | None) -> Manifest:
        """Return an image by its id, or the newest good one that suits the machine's sizes.

        Raises:
            InputError: There is none; or NVIDIA's driver is not in it, and the sizes have GPUs.
        """
        gpu = any(has_gpu(size) for size in words(self._azure.settings.azure_training_sizes))
        chosen = self._target.gallery.choose(image, gpu=True if gpu else None)
        if gpu and not chosen.gpu:
            raise InputError(
                f"{chosen.image} has no driver for GPUs, and the training machine has one",
                hint="BAKERY_AZURE_GPU=true ./inv bake --target azure; or set"
                " azure_training_sizes to sizes without GPUs",
            )
        return known_manifest(self._target.settings, chosen)

    @explained("make the network of the training machine")
    def prepare(self) -> None:
        """Make network and address, or mend them: also after other ranges were set."""
        for one in self.net.wanted:
            one.ensure(self._azure.names)

    def create(self, image: Manifest) -> None:
        """Make the machine anew, of an image; what was on the one before it is gone."""
        self._machines.remove(TRAINING)
        self._forget_access()
        birth = Birth(
            image=self._target.gallery_image(image.id).id,
            interface=self.net.ensure_interface,
            custom_data=render("cloud-init/training-user-data.yaml.j2", user=ADMIN),
            public_key=self._key.public(),
            sizes=words(self._azure.settings.azure_training_sizes),
            disk_gib=self._azure.settings.azure_training_disk_gib,
            tags={IMAGE_TAG: image.id},
        )
        self._machines.create(TRAINING, birth)

    def start(self) -> None:
        """Boot the machine if it is not up, and wait until its Docker answers over SSH.

        Raises:
            BakeryError: It does not within its time.
        """
        self._machines.start(TRAINING)
        _ = self.access
        if ssh.wait(self.ready, seconds=_DOCKER_SECONDS):
            return
        address = self.net.address()
        if not port_open(address):
            raise BakeryError(
                f"SSH of the training machine at {address} does not answer this host",
                hint="is this host's address in azure_ssh_sources?"
                f" ({self._azure.settings.azure_ssh_sources or 'unset'})",
                tail=self._target.access.console(TRAINING),
            )
        raise BakeryError(
            f"Docker on the training machine did not answer within {_DOCKER_SECONDS} s",
            hint="the end of its console is shown; ./inv deploy --role training tries again",
            tail=self._target.access.console(TRAINING),
        )

    # -- the end ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Deallocate the machine: only disk and address are paid for then."""
        self._machines.deallocate(TRAINING)

    def remove(self) -> None:
        """Remove the machine with its disk, its network and its key."""
        for _, take_away in self.removals():
            take_away()

    def removals(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Give the steps of its removal, each with what it removes."""
        yield "training machine", partial(self._machines.remove, TRAINING)
        for what, name, client in self._parts:
            yield f"{what} of the training machine", partial(self._target.delete, client, name)
        if self._target.account.find() is not None and self._target.has_state():
            yield "key of the training machine", self._forget_all

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _parts(self) -> tuple[tuple[str, str, Any], ...]:
        """What it is reached by, in the order of removal: kind, name, and who deletes it."""
        names, network = self._azure.names, self._azure.clients.network
        group = names.training_security_group
        return (
            ("virtual network", names.training_network, network.virtual_networks),
            ("network security group", group, network.network_security_groups),
            ("public address", names.training_address, network.public_ip_addresses),
        )

    @cached_property
    def _key(self) -> StoredKey:
        target = self._target
        return StoredKey(target.store, TRAINING, target.access.folder / TRAINING)

    def _host_key(self) -> str:
        """Return the machine's host key: asked once, of each machine of that name anew."""
        machine, store = self._machines.identity(TRAINING), self._target.store
        kept = json.loads(store.read(_HOST_KEY) or "{}")
        if machine and kept.get("machine") == machine:
            return str(kept["key"])
        seconds = float(self._azure.settings.boot_seconds)
        key = self._target.access.host_key(TRAINING, seconds=seconds)
        store.write(_HOST_KEY, json.dumps({"machine": machine, "key": key}))
        return key

    def _forget_access(self) -> None:
        self.__dict__.pop("access", None)

    def _forget_all(self) -> None:
        self._forget_access()
        self._key.forget()
        self._target.store.delete(_HOST_KEY)
