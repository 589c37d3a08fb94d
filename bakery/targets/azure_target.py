"""One deployment in Azure: the steps of a replacement, and what is asked of its machines."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bakery import duty, environment, tls
from bakery.azure import removal
from bakery.azure.drift import drift
from bakery.azure.errors import explained
from bakery.azure.gallery import Gallery, GalleryImage
from bakery.azure.machines import Birth
from bakery.azure.manifests import known_manifest
from bakery.azure.operations import found
from bakery.azure.records import Records
from bakery.azure.settings import LETS_ENCRYPT, words
from bakery.errors import BakeryError, InputError
from bakery.log import warn
from bakery.manifest import Manifest
from bakery.state import Generation, write_atomically
from bakery.targets.azure_ground import AzureGround
from bakery.targets.azure_training import AzureTraining
from bakery.targets.base import Answer, Server, SshAccess

_QUIESCE_SECONDS = 120
_ENVIRONMENT = "/etc/mlflow-bakery/environment.json"


class AzureTarget(AzureGround):
    """One deployment in Azure; every method can be repeated and converges."""

    def begun(self) -> bool:
        """Return whether something of a deployment that has no state is there to be removed."""
        return self.account.find() is not None or bool(self.group.noted())

    # -- images ----------------------------------------------------------------------------------

    @cached_property
    def gallery(self) -> Gallery:
        """The images."""
        return Gallery(self.settings, self.azure.clients)

    def choose_image(self, image: str | None) -> Manifest:
        """Return an image of the gallery by its id, or the newest good one.

        Raises:
            InputError: There is no such image.
        """
        return known_manifest(self.settings, self.gallery_image(image))

    def schema(self, image: Manifest) -> dict[str, Any]:
        """Return what an image's MLflow reads: the schema's revision, and all before it."""
        return {"revision": "", "ancestors": [], **self.gallery_image(image.id).schema}

    def gallery_image(self, image: str | None) -> GalleryImage:
        """Return an image by its id, or the newest good one that the server may serve from.

        Those for training machines are left out, unless they are what this deployment bakes.
        """
        if self._chosen is None or image != self._chosen.image:
            either = None if self.settings.azure_gpu else False
            self._chosen = self.gallery.choose(image, gpu=either)
        return self._chosen

    _chosen: GalleryImage | None = None

    # -- generations: the steps of a replacement, in their order ---------------------------------

    def environment(self) -> dict[str, Any]:
        """Return the environment that a machine of this deployment gets."""
        settings = self.settings
        directory = LETS_ENCRYPT.get(settings.acme_directory, settings.acme_directory)
        authority = settings.acme_ca.read_text(encoding="utf-8") if settings.acme_ca else None
        return environment.environment(
            self.deployment,
            self.secrets,
            mysql_user=settings.mysql_user,
            blob=self.blob,
            blob_endpoint=self.account.endpoint,
            certificate=tls.given_certificate(settings, self.deployment.hostname),
            acme={"email": settings.acme_email or "", "directory": directory, "ca": authority},
            client_id=self.identity.facts()["clientId"] if self.identity else None,
        )

    def create(self, generation: Generation) -> str:
        """Boot a machine to standby; make it first, unless it is one that is there."""
        number, current = generation.number, self.deployment.generation
        if self.machines.find(number) is None:
            told = self._make(generation)
            self._wait_for_agent(generation)
            return told
        self.machines.start(number)
        if current is None or number != current.number:
            # It remembers whom it let in; one that was fenced could not be told.
            duty.ask(self, generation, "close")
        return ""

    def quiesce(self, generation: Generation) -> dict[str, int]:
        """Stop the server in order and unmount the data disk, or deallocate the machine."""
        if not self.running(generation):
            return {}
        try:
            return dict(duty.ask(self, generation, "quiesce", timeout=_QUIESCE_SECONDS))
        except BakeryError as error:
            warn(f"generation {generation.number} does not stop serving, it is fenced: {error}")
        self.machines.deallocate(generation.number)
        return {}

    def detach(self, generation: Generation) -> None:
        """Take the data disk from a machine that has unmounted it."""
        self.machines.detach(generation.number, self.disks.id_of(self.data_disk))

    def snapshot(self, generation: Generation) -> None:
        """Copy the data disk as it is before a generation gets it."""
        self.disks.take_snapshot(self.azure.names.snapshot(generation.number), self.data_disk)

    def attach(self, generation: Generation) -> None:
        """Give the data disk to a running machine.

        Raises:
            BakeryError: Another machine has it.
        """
        holder = self.disks.holder(self.data_disk)
        if holder and holder != self.azure.names.machine(generation.number):
            raise BakeryError(
                f"the machine {holder} has the data disk",
                hint="it must be stopped and give it up first: ./inv status, ./inv deploy",
            )
        self.records.note_given(generation)
        self.machines.attach(generation.number, self.disks.id_of(self.data_disk))

    def move_address(self, generation: Generation) -> None:
        """Lead the public address to this machine."""
        self.net.move_address(self.azure.names.interface(generation.number))

    def activate(self, generation: Generation) -> None:
        """Let the machine mount its data disk and start the server."""
        duty.ask(self, generation, "activate")

    def admit(self, generation: Generation) -> None:
        """Let every client in."""
        duty.ask(self, generation, "admit")
        self.records.note_served(generation)

    def retire(self, generation: Generation) -> None:
        """Deallocate a machine; it is kept for a rollback."""
        self.records.note_left(generation)
        self.machines.deallocate(generation.number)

    def remove(self, generation: Generation) -> None:
        """Delete a machine with its disk and network interface; never the data disk."""
        self.machines.remove(generation.number)

    def changed_data(self, generation: Generation) -> bool:
        """Return whether a migration began since a generation's snapshot."""
        if generation.number not in self.snapshots():
            return False
        return self.records.changed(generation)

    def restore_snapshot(self, generation: Generation) -> None:
        """Put a disk made from a generation's snapshot in the data disk's place."""
        names = self.azure.names
        snapshot = names.snapshot(generation.number)
        if generation.number not in self.snapshots():
            raise BakeryError(f"there is no snapshot {snapshot}", hint="./inv history")
        before, after = self.data_disk, f"{names.data_disk}-{generation.number}"
        if before == after:
            return
        for older in self.disks.all():
            if older not in {before, after}:
                self.disks.remove(older)
        self.disks.ensure_from_snapshot(after, snapshot)
        self.deployment.data_disk = after
        self.save()
        warn(
            f"the data disk is as it was before generation {generation.number};"
            f" what became of it is kept as the disk {before}"
        )

    def snapshots(self) -> set[int]:
        """Return the numbers of the generations of which there is a snapshot."""
        start = self.azure.names.snapshot(0).removesuffix("0")
        found = [name.removeprefix(start) for name in self.disks.snapshots()]
        return {int(number) for number in found if number.isdecimal()}

    def forget_snapshots(self, *, but: set[int]) -> None:
        """Delete all snapshots but those of these generations."""
        for number in self.snapshots() - but:
            self.disks.remove_snapshot(self.azure.names.snapshot(number))

    def running(self, generation: Generation) -> bool:
        """Return whether a generation's machine runs."""
        return self.machines.running(generation.number)

    def fault(self, generation: Generation) -> str:
        """Return nothing: a look would be a call for each few seconds of waiting."""
        del generation
        return ""

    def generations(self) -> list[Generation]:
        """Return every generation that has something in Azure."""
        return [Generation(number=number, image="") for number in self.machines.numbers()]

    # -- inside a machine ------------------------------------------------------------------------

    def execute(
        self,
        generation: Generation,
        words: list[str],
        *,
        stdin: str | None = None,
        timeout: float = 180,
    ) -> Answer:
        """Run a command in a machine as root, over SSH or by Run Command."""
        access = self._ssh(generation)
        return self.access.execute(
            generation.number, words, access=access, stdin=stdin, timeout=timeout
        )

    def console(self, generation: Generation) -> str:
        """Return the end of what the machine wrote to its console."""
        return self.access.console(generation.number)

    def server(self, generation: Generation | None = None) -> Server:
        """Return the server as its clients see it.

        Raises:
            InputError: Nothing is deployed.
        """
        generation = generation or self.deployment.generation
        if generation is None:
            raise InputError(
                f"{self.deployment.name} is not deployed", hint="./inv deploy --target azure"
            )
        deployment = self.deployment
        return Server(
            name=deployment.name,
            hostname=deployment.hostname,
            address=deployment.address,
            username=deployment.username,
            password=self.secrets.password,
            ca_file=self.settings.certificate_root
            if deployment.own_certificate
            else self.settings.acme_root,
            ssh=partial(self._ssh, generation),
            blob=self.blob,
            data_disk_uuid=deployment.data_disk_uuid,
            certificate=self.settings.certificate if deployment.own_certificate else None,
            check_token=self.secrets.check_token,
        )

    def manifest_file(self, generation: Generation) -> Path:
        """Return where the manifest of a generation's image lies on this host, as Azure has it."""
        image = self.gallery_image(generation.image)
        found = known_manifest(self.settings, image, self.azure.clients)
        file = self.access.folder / "image.json"
        write_atomically(file, found.model_dump_json(by_alias=True) + "\n", mode=0o644)
        return file

    @cached_property
    def training(self) -> AzureTraining:
        """The training machine, whether there is one or not."""
        return AzureTraining(self)

    # -- looking ---------------------------------------------------------------------------------

    def drift(self) -> list[str]:
        """Return what is not as it was made, in words."""
        return drift(self)

    def whole(self, generation: Generation) -> bool:
        """Return whether a machine has the data disk and the public address."""
        names, number = self.azure.names, generation.number
        disk = self.disks.known(self.data_disk)
        holder = (disk.managed_by or "").split("/")[-1] if disk else ""
        return holder == names.machine(number) and self.net.holder() == names.interface(number)

    # -- the end ---------------------------------------------------------------------------------

    def destroy(self, *, with_data: bool) -> list[str]:
        """Remove machines and network; disks, address, blobs and state too `with_data`.

        Returns what could not be removed; one failure does not stop the rest.
        """
        return removal.remove(self, with_data=with_data)

    @explained("delete it")
    def delete(self, client: Any, name: str) -> None:
        """Delete a resource of the group, if it is there and ours; `client` has its kind."""
        group = self.azure.group
        model = found(lambda: client.get(group, name))
        if model is not None and self.azure.names.owns(model.tags):
            self.azure.operations.insist(lambda: client.begin_delete(group, name).result())

    # -- inside ----------------------------------------------------------------------------------

    @cached_property
    def records(self) -> Records:
        """What the machines left on the data disk."""
        return Records(self)

    def _make(self, generation: Generation) -> str:
        """Make a machine; return the digest of the environment that it is given."""
        deployment = self.deployment
        interface = partial(self.net.ensure_interface, generation.number)
        deployment.environment_serial += 1
        self.save()
        values = self.environment()
        birth = Birth(
            image=self.gallery_image(generation.image).id,
            interface=interface,
            custom_data=environment.user_data(values, deployment.environment_serial),
            public_key=self.access.key(self.store).public(),
            sizes=words(self.settings.azure_vm_sizes),
            identity=self.identity.id if self.identity else "",
        )
        self.machines.create(generation.number, birth)
        return environment.digest(values)

    def _wait_for_agent(self, generation: Generation) -> None:
        """Wait until cloud-init has brought the environment: Azure calls a machine ready before.

        Not until it is done: its last stage comes after multi-user.target, which comes after the
        server's unit, which waits for the data disk.

        Raises:
            BakeryError: It does not come; with the end of the console.
        """
        words = ["sh", "-c", f"until test -s {_ENVIRONMENT}; do sleep 0.2; done"]
        seconds = float(self.settings.boot_seconds)
        answer = self.access.execute(
            generation.number, words, access=None, stdin=None, timeout=seconds
        )
        if answer.code in {124, 255}:
            raise BakeryError(
                f"the machine of generation {generation.number} did not boot to its end",
                hint="the end of its console is shown",
                tail=self.console(generation) or answer.err,
            )

    def _ssh(self, generation: Generation) -> SshAccess | None:
        """Return the way in over SSH: only for the machine that has the public address."""
        if not self.access.ssh_open:
            return None
        number, address = generation.number, self.deployment.address
        if self.net.holder() != self.azure.names.interface(number):
            return None
        machine = self.machines.identity(number)
        return self.access.ssh(number, machine, address, self.store) if machine else None
