"""The recipe for Azure: every option is one that the plugin has, nothing secret is in it."""

import subprocess
from pathlib import Path

import pytest

from bakery import packer, recipe
from bakery.errors import BakeryError
from tests.azure.packer.template import Block, problems, read
from tests.unit.samples import assert_golden

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"


def azure(**changes: object) -> recipe.AzureArm:
    given: dict[str, object] = {
        "auth": "cli",
        "cloud": "Public",
        "metadata_host": "",
        "subscription": SUBSCRIPTION,
        "location": "westeurope",
        "temporary_group": "mlflow-bakery-bake-1",
        "tags": {"managed-by": "mlflow-bakery", "mlflow-bakery-image": "one"},
        "allowed": ["203.0.113.7/32"],
        "size": "Standard_B2s",
        "disk_gib": 30,
        "urn": ("Canonical", "offer", "sku", "20.04.202505200"),
        "resource_group": "mlflow-bakery",
        "gallery": "mlflow_bakery",
        "definition": "mlflow-ubuntu-20.04",
        "version": "20260101.101010.0",
    }
    return recipe.AzureArm(**{**given, **changes})  # type: ignore[arg-type]


def write(folder: Path, *, gpu: bool = False, **changes: object) -> str:
    inputs = recipe.Inputs(
        gpu=gpu,
        base="ubuntu-20.04",
        archives={"mysql": Path("/cache/mysql.tar")},
        images_json="{}\n",
        source="azure-arm",
        target="azure",
        azure=azure(**changes),
    )
    made = recipe.write_recipe(folder / "recipe", inputs, (1, 12, 0))
    return (made.folder / "template.pkr.hcl").read_text()


WAYS = ["cli", "client-secret", "oidc", "managed-identity"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The recipe for each way of signing in."""
    return {way: write(tmp_path_factory.mktemp(way), auth=way) for way in WAYS}


def source(text: str) -> Block:
    return next(one for one in read(text) if one.kind == "source")


@pytest.mark.parametrize("auth", WAYS)
def test_every_option_is_one_of_the_plugin_s(texts: dict[str, str], auth: str) -> None:
    assert problems(read(texts[auth])) == []
    found = source(texts[auth])
    assert found.labels == ("azure-arm", "machine")
    assert found.values["vm_size"] == "Standard_B2s", "the plugin's own default is retired"
    assert found.values["shared_gallery_image_version_exclude_from_latest"] is True
    assert found.values["allowed_inbound_ip_addresses"] == ["203.0.113.7/32"]
    assert found.values["azure_tags"]["managed-by"] == "mlflow-bakery"
    assert found.all("shared_image_gallery_destination")


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("vm_size ", "vm_sizze", 'Unsupported argument: "vm_sizze"'),
        ("gallery_name ", "galery_name", 'Unsupported argument: "galery_name"'),
        ("shared_image_gallery_destination {", "shared_image_gallery_destinatoin {", "block type"),
        ('post-processor "manifest"', 'post-processor "manifesto"', "block type"),
        ('provisioner "file"', 'provisioner "flie"', "block type"),
        ("execute_command ", "execute_comand", 'Unsupported argument: "execute_comand"'),
        ('"Linux"', '"linux"', 'Invalid value of "os_type"'),
        ('"Standard"', '"Standart"', 'Invalid value of "public_ip_sku"'),
        ('"Public"', '"public"', 'Invalid value of "cloud_environment_name"'),
        ('"download"', '"donwload"', 'Invalid value of "direction"'),
        ("sensitive ", "sensitve", 'Unsupported argument: "sensitve"'),
    ],
)
def test_a_misspelt_word_is_found(texts: dict[str, str], right: str, wrong: str, told: str) -> None:
    text = texts["client-secret"]
    assert right in text
    found = problems(read(text.replace(right, wrong)))
    assert found
    assert all(told in one for one in found)


def test_an_option_that_is_set_in_another_block_is_found(texts: dict[str, str]) -> None:
    text = texts["cli"].replace("  gallery_name ", "  vm_size = 1\n gallery_name ")
    assert problems(read(text)) == [
        'Unsupported argument: "vm_size" is not expected in shared_image_gallery_destination'
    ]


@pytest.mark.parametrize("auth", WAYS)
def test_debian_s_packer_reads_it(texts: dict[str, str], tmp_path: Path, auth: str) -> None:
    """The old one has other options, but the same language."""
    template = tmp_path / "template.pkr.hcl"
    template.write_text(texts[auth])
    packer.check_syntax(tmp_path)


def test_debian_s_packer_would_refuse_what_is_no_hcl(texts: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "template.pkr.hcl").write_text(texts["cli"].replace("build {", "build {{"))
    with pytest.raises(BakeryError, match="packer failed"):
        packer.check_syntax(tmp_path)


@pytest.mark.parametrize("auth", ["client-secret", "oidc"])
def test_what_is_secret_comes_from_the_environment(texts: dict[str, str], auth: str) -> None:
    blocks = read(texts[auth])
    variables = {one.labels[0]: one.values for one in blocks if one.kind == "variable"}
    secrets = {name for name, values in variables.items() if values.get("sensitive")}
    assert secrets == (
        {"client_secret"} if auth == "client-secret" else {"oidc_request_token", "oidc_request_url"}
    )
    found = next(one for one in blocks if one.kind == "source").values
    assert all(found[name] == f"${{var.{name}}}" for name in variables)
    assert all(values["default"] == "" for values in variables.values())


def test_a_control_plane_of_one_s_own(tmp_path: Path) -> None:
    values = source(write(tmp_path, metadata_host="127.0.0.1:4443")).values
    assert values["metadata_host"] == "127.0.0.1:4443"
    assert "cloud_environment_name" not in values


def test_the_provisioners_are_those_of_the_local_bake(texts: dict[str, str]) -> None:
    build = next(one for one in read(texts["cli"]) if one.kind == "build")
    steps = [one.values for one in build.all("provisioner")]
    found = [Path(script).name for one in steps for script in one.get("scripts", [])]
    assert found == sorted(path.name for path in recipe.PROVISION.glob("*.sh"))
    assert found[-1] == "90-hygiene.sh"


def test_what_gpus_need_is_baked_in_only_when_asked_for(
    texts: dict[str, str], tmp_path: Path
) -> None:
    script = recipe.PROVISION / "25-nvidia.sh"
    with_gpu = write(tmp_path, gpu=True)
    assert "BAKE_GPU=yes" in with_gpu
    assert "BAKE_GPU" not in texts["cli"]
    assert problems(read(with_gpu)) == []
    # Without it, the script ends before it calls any program.
    done = subprocess.run(["/bin/bash", script], env={"PATH": "/nowhere"}, check=False)
    assert done.returncode == 0
    asked = {"PATH": "/nowhere", "BAKE_GPU": "yes"}
    assert subprocess.run(["/bin/bash", script], env=asked, check=False).returncode != 0


def test_what_gpus_need_is_pinned_and_proven() -> None:
    text = (recipe.PROVISION / "25-nvidia.sh").read_text()
    lines = text.replace("\\\n", " ").splitlines()
    installed = [line for line in lines if line.startswith("apt-get install")]
    words = [word for line in installed for word in line.split() if word.startswith('"')]
    assert len(words) == 7
    assert all("$driver" in word or "=$toolkit" in word for word in words)
    assert "signed-by=" in text
    assert lines[-1].endswith("grep -q '\"nvidia\"'")


def test_azure_s_agent_takes_itself_back_last(texts: dict[str, str]) -> None:
    lines = (recipe.PROVISION / "90-hygiene.sh").read_text().splitlines()
    agent = next(n for n, line in enumerate(lines) if "waagent -force -deprovision+user" in line)
    assert [line for line in lines[agent + 1 :] if line not in {"fi", "sync"}] == []
    assert "BAKE_TARGET=azure" in texts["cli"]


def test_the_rendered_template(tmp_path: Path) -> None:
    text = write(tmp_path)
    for place, name in ((tmp_path / "recipe", "RECIPE"), (recipe.PROVISION, "PROVISION")):
        text = text.replace(str(place), name)
    assert_golden("azure-arm.pkr.hcl", text)
