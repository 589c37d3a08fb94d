"""A build: the calls to Azure in the order of the plugin, its log, its manifest, its clean-up."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.azure.packer.template import Block

_RESOURCES, _NETWORKS, _COMPUTE = "2025-04-01", "2026-03-01", "2026-04-01"
_GALLERIES = "2026-03-03"
PHASES = ("auth", "group", "vm", "ssh", "provision", "capture", "publish")
_NETWORK = "Microsoft.Network"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZxTmFtZWRCeU5vYm9keUF0QWxsSW5BVGVzdEtl packer"
_PACKAGES = {"docker-ce": "5:28.1.1-1~ubuntu.20.04~focal", "openssl": "1.1.1f-1ubuntu2.24"}
_SCHEMA = {"revision": "dc11669786a5", "ancestors": ["1bd49d398cd23", "bf29a5ff90ea"]}


class BuildError(Exception):
    """The build ends here; its text is Packer's reason."""


class Build:
    """One build of a recipe."""

    def __init__(
        self, blocks: list[Block], log: Callable[[str], None], *, fail: str, stuck: bool
    ) -> None:
        self._blocks = blocks
        self._source = next(one for one in blocks if one.kind == "source").values
        self._destination = (
            next(one for one in blocks if one.kind == "source")
            .all("shared_image_gallery_destination")[0]
            .values
        )
        self._steps = next(one for one in blocks if one.kind == "build")
        self._log = log
        self._fail = fail
        self._stuck = stuck
        self._session = requests.Session()
        self._session.verify = os.environ.get("SSL_CERT_FILE", "")
        self._base = f"https://{self._source['metadata_host']}"
        self._group = str(self._source["temp_resource_group_name"])

    def run(self) -> None:
        """Make the version.

        Raises:
            BuildError: With Packer's reason; the temporary group is gone.
        """
        self._sign_in()
        self._check_destination()
        with self._temporary_group():
            self._make_machine()
            self._provision()
            self._capture()
            made = self._publish()
        self._write_manifest(made)

    # -- phases ------------------------------------------------------------------------------------

    def _sign_in(self) -> None:
        self._log("Running builder ...")
        self._begin("auth", "Creating Azure Resource Manager (ARM) client ...")
        token = self._cli_token() if self._value("use_azure_cli_auth") else self._principal_token()
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._log("ARM Client successfully created")

    def _cli_token(self) -> str:
        words = ["az", "account", "get-access-token", "--output", "json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"could not build authorizer: {done.stderr.strip()}")
        return str(json.loads(done.stdout)["accessToken"])

    def _principal_token(self) -> str:
        form = {"grant_type": "client_credentials", "client_id": self._value("client_id")}
        if "client_secret" in self._source:
            form["client_secret"] = self._value("client_secret")
        else:
            asked = self._session.get(
                self._value("oidc_request_url"),
                params={"audience": "api://AzureADTokenExchange"},
                headers={"Authorization": f"Bearer {self._value('oidc_request_token')}"},
                timeout=30,
            )
            form["client_assertion"] = asked.json()["value"]
            form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        url = f"{self._base}/{self._value('tenant_id')}/oauth2/v2.0/token"
        answer = self._session.post(url, data=form, timeout=30).json()
        if "access_token" not in answer:
            raise BuildError(f"could not build authorizer: {answer['error_description']}")
        return str(answer["access_token"])

    def _check_destination(self) -> None:
        found = self._session.get(self._url(self._version_id, _GALLERIES), timeout=60)
        if found.status_code == 200:
            raise BuildError("a gallery image version for this image already exists, use -force")
        definition = self._version_id.rsplit("/versions/", 1)[0]
        found = self._session.get(self._url(definition, _GALLERIES), timeout=60)
        if found.status_code != 200:
            raise BuildError(
                "the Shared Gallery Image to which to publish the image does not exist"
            )

    @contextmanager
    def _temporary_group(self) -> Iterator[None]:
        self._begin("group", "Creating resource group ...")
        self._log(f" -> ResourceGroupName : '{self._group}'")
        place = {"location": self._source["location"], "tags": self._source["azure_tags"]}
        path = f"/subscriptions/{self._source['subscription_id']}/resourcegroups/{self._group}"
        self._call("PUT", path, _RESOURCES, place)
        try:
            yield
        finally:
            if not self._stuck:
                self._log("Cleanup requested, deleting resource group ...")
                self._call("DELETE", path, _RESOURCES)
                self._log("Resource group has been deleted.")

    def _make_machine(self) -> None:
        self._begin("vm", "Deploying deployment template ...")
        subnet = {"addressPrefix": "10.0.0.0/24"}
        self._put(_NETWORK, "virtualNetworks/net", _NETWORKS, {
            "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
            "subnets": [{"name": "machines", "properties": subnet}],
        })  # fmt: skip
        standard = {"sku": {"name": self._source["public_ip_sku"]}}
        self._put(_NETWORK, "publicIPAddresses/ip", _NETWORKS,
                  {"publicIPAllocationMethod": "Static"}, **standard)  # fmt: skip
        inner = {
            "subnet": {"id": self._id(_NETWORK, "virtualNetworks/net/subnets/machines")},
            "publicIPAddress": {"id": self._id(_NETWORK, "publicIPAddresses/ip")},
        }
        self._put(_NETWORK, "networkInterfaces/nic", _NETWORKS,
                  {"ipConfigurations": [{"name": "main", "properties": inner}]})  # fmt: skip
        self._put("Microsoft.Compute", "virtualMachines/vm", _COMPUTE, self._machine())

    def _machine(self) -> dict[str, Any]:
        source, user = self._source, self._source["ssh_username"]
        key = {"path": f"/home/{user}/.ssh/authorized_keys", "keyData": _KEY}
        return {
            "hardwareProfile": {"vmSize": source["vm_size"]},
            "storageProfile": {
                "imageReference": {
                    key: source[f"image_{key}"] for key in ("publisher", "offer", "sku", "version")
                },
                "osDisk": {"createOption": "FromImage", "diskSizeGB": source["os_disk_size_gb"]},
            },
            "osProfile": {
                "computerName": "pkrvm", "adminUsername": user,
                "linuxConfiguration": {
                    "disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]},
                },
            },
            "networkProfile": {
                "networkInterfaces": [{"id": self._id(_NETWORK, "networkInterfaces/nic")}]
            },
        }  # fmt: skip

    def _provision(self) -> None:
        self._begin("ssh", "Waiting for SSH to become available...")
        self._log("Connected to SSH!")
        self._begin("provision", "Provisioning ...")
        for step in self._steps.all("provisioner"):
            for script in step.values.get("scripts", []):
                if not Path(script).is_file():
                    raise BuildError(f"Bad script '{script}': no such file or directory")
                self._log(f"Provisioning with shell script: {script}")
            if step.labels[0] == "file":
                self._transfer(step.values)

    def _transfer(self, values: dict[str, Any]) -> None:
        source, target = str(values["source"]), str(values["destination"])
        if values.get("direction") == "download":
            self._log(f"Downloading {source} => {target}")
            found = {"packages.json": _PACKAGES, "schema.json": _SCHEMA}[Path(source).name]
            Path(target).write_text(json.dumps(found), encoding="utf-8")
            return
        self._log(f"Uploading {source} => {target}")
        if not Path(source).is_file():
            raise BuildError(f"Bad source '{source}': no such file or directory")

    def _capture(self) -> None:
        self._begin("capture", "Powering off machine ...")
        machine = self._id("Microsoft.Compute", "virtualMachines/vm")
        self._call("POST", f"{machine}/deallocate", _COMPUTE)
        self._log("Generalizing machine ...")
        self._call("POST", f"{machine}/generalize", _COMPUTE)

    def _publish(self) -> str:
        self._begin("publish", "Publishing to Shared Image Gallery ...")
        exclude = self._source["shared_gallery_image_version_exclude_from_latest"]
        self._call("PUT", self._version_id, _GALLERIES, {
            "location": self._source["location"],
            "tags": self._source["azure_tags"],
            "properties": {
                "publishingProfile": {
                    "targetRegions": [{"name": self._source["location"]}],
                    "excludeFromLatest": exclude,
                    "replicaCount": 1,
                },
                "storageProfile": {
                    "source": {
                        "virtualMachineId": self._id("Microsoft.Compute", "virtualMachines/vm")
                    }
                },
            },
        })  # fmt: skip
        self._log(f" -> Shared Gallery Image Version ID : '{self._version_id}'")
        return self._version_id

    def _write_manifest(self, made: str) -> None:
        output = next(one for one in self._steps.all("post-processor")).values["output"]
        build = {
            "name": "machine", "builder_type": "azure-arm", "build_time": int(time.time()),
            "files": None, "artifact_id": made, "packer_run_uuid": "test", "custom_data": None,
        }  # fmt: skip
        text = json.dumps({"builds": [build], "last_run_uuid": "test"}, indent=2)
        Path(str(output)).write_text(text, encoding="utf-8")

    # -- Azure -------------------------------------------------------------------------------------

    def _begin(self, phase: str, text: str) -> None:
        self._log(text)
        if phase == self._fail:
            raise BuildError(f"asked to fail at {phase}")

    def _value(self, name: str) -> Any:
        """Return an option, taken from the environment where it is a variable."""
        found = self._source.get(name, "")
        if isinstance(found, str) and found.startswith("${var."):
            return os.environ.get(f"PKR_VAR_{found[6:-1]}", "")
        return found

    @property
    def _version_id(self) -> str:
        found = self._destination
        return (
            f"/subscriptions/{found['subscription']}/resourceGroups/{found['resource_group']}"
            f"/providers/Microsoft.Compute/galleries/{found['gallery_name']}"
            f"/images/{found['image_name']}/versions/{found['image_version']}"
        )

    def _id(self, provider: str, path: str) -> str:
        group = f"/subscriptions/{self._source['subscription_id']}/resourceGroups/{self._group}"
        return f"{group}/providers/{provider}/{path}"

    def _put(
        self, provider: str, path: str, version: str, properties: dict[str, Any], **more: Any
    ) -> None:
        place = {"location": self._source["location"], "tags": self._source["azure_tags"]}
        body = {**place, "properties": properties, **more}
        self._call("PUT", self._id(provider, path), version, body)

    def _url(self, path: str, version: str) -> str:
        return f"{self._base}{path}?api-version={version}"

    def _call(self, method: str, path: str, version: str, body: Any = None) -> None:
        try:
            answer = self._session.request(method, self._url(path, version), json=body, timeout=60)
            self._wait(answer)
        except requests.RequestException as error:
            raise BuildError(f"{method} {path}: {error}") from error

    def _wait(self, answer: requests.Response) -> None:
        self._refuse(answer)
        url = answer.headers.get("Azure-AsyncOperation") or answer.headers.get("Location")
        while url:
            answer = self._session.get(url, timeout=60)
            self._refuse(answer)
            state = answer.json().get("status") if answer.content else None
            if state == "Failed":
                raise BuildError(_said(answer))
            if answer.status_code != 202 and state != "InProgress":
                return
            time.sleep(0.01)

    def _refuse(self, answer: requests.Response) -> None:
        if answer.status_code >= 400:
            raise BuildError(_said(answer))


def _said(answer: requests.Response) -> str:
    found = answer.json().get("error", {})
    return f'Code="{found.get("code")}" Message="{found.get("message")}"'
