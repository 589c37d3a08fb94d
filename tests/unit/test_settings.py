"""Settings: where they come from, who wins, what is refused and with which words."""

import os
from pathlib import Path

import pytest

from bakery import settings
from bakery.errors import InputError
from tests.unit.samples import ALL_SYMBOLS, secret

KEY = "c2VjcmV0IGtleQ=="


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "own" / "bakery.toml"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv("BAKERY_CONFIG", str(path))
    return path


def refusal() -> InputError:
    with pytest.raises(InputError) as refused:
        settings.load()
    assert refused.value.hint
    return refused.value


def test_the_call_wins_over_the_environment_and_that_over_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('name = "file"\nusername = "file"\nhostname = "file.example.org"\n')
    assert settings.load().name == "file"
    monkeypatch.setenv("BAKERY_NAME", "env")
    monkeypatch.setenv("BAKERY_USERNAME", "env")
    found = settings.load(name="call")
    assert (found.name, found.username, found.hostname) == ("call", "env", "file.example.org")
    assert settings.load(name=None).name == "env"


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("MLFLOW_TRACKING_HOSTNAME", "hostname", "m.example.org"),
        ("MLFLOW_TRACKING_USERNAME", "username", "someone"),
        ("MYSQL_USER", "mysql_user", "someone"),
        ("AZURE_STORAGE_ACCOUNT", "storage_account", "account1"),
        ("AZURE_STORAGE_CONTAINER", "storage_container", "my-runs"),
    ],
)
def test_names_of_the_blog_work_and_win_over_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, field: str, value: str
) -> None:
    file.write_text(f'{field} = "file1.example"\n' if field == "hostname" else f'{field} = "fil"\n')
    assert getattr(settings.load(), field).startswith("fil")
    monkeypatch.setenv(name, value)
    assert getattr(settings.load(), field) == value


def test_what_shells_and_desktops_export_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOSTNAME", "USERNAME", "PASSWORD", "NAME", "REGISTRY", "BASE"):
        monkeypatch.setenv(name, "0a1b2c3d4e5f")
    found = settings.load()
    assert found.hostname is None
    assert (found.username, found.name, found.registry) == ("mlflow", "mlflow", "docker.io")
    assert found.password is None


def test_the_nearest_name_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('hostnam = "m.example.org"\n')
    error = refusal()
    assert str(error) == f"{file}: no setting is called hostnam"
    assert error.hint == "did you mean hostname?"
    file.write_text("")
    monkeypatch.setenv("BAKERY_DISK_GB", "9")
    error = refusal()
    assert str(error) == "the environment: no setting is called BAKERY_DISK_GB"
    assert error.hint == "did you mean BAKERY_DISK_GIB?"


@pytest.mark.parametrize("text", ["name = ", 'name = "a"\nname = "b"', "[local]\nname = 1", "\xff"])
def test_a_broken_file_is_refused_by_its_name(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    assert str(refusal()).startswith(f"{file}: ")


def test_a_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKERY_CONFIG", "/nowhere/bakery.toml")
    assert str(refusal()) == "/nowhere/bakery.toml: no such file"


GOOD = [
    ("BAKERY_NAME", "a"),
    ("BAKERY_NAME", "my-server-2"),
    ("BAKERY_HOSTNAME", "mlflow.example.org"),
    ("BAKERY_HOSTNAME", f"{'a' * 63}.b"),
    ("BAKERY_USERNAME", "a user with $ymbols & ümlauts"),
    ("BAKERY_PASSWORD", "x"),
    ("BAKERY_PASSWORD", "x" * 72),
    ("BAKERY_PASSWORD", ALL_SYMBOLS[:47]),
    ("BAKERY_PASSWORD", f" {ALL_SYMBOLS[47:]} äß€漢 "),
    ("BAKERY_MYSQL_USER", "r00t"),
    ("BAKERY_STORAGE_ACCOUNT", "abc"),
    ("BAKERY_STORAGE_CONTAINER", "a-b-c"),
    ("BAKERY_STORAGE_ACCESS_KEY", KEY),
    ("BAKERY_REGISTRY", "localhost:5000"),
    ("BAKERY_REGISTRY", "ghcr.io/mirror/docker.io"),
    ("BAKERY_BASE", "debian-13"),
    ("BAKERY_DISK_GIB", "8"),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_good_values_arrive_unchanged(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    found = getattr(settings.load(), name.removeprefix("BAKERY_").lower())
    assert (found.get_secret_value() if hasattr(found, "get_secret_value") else str(found)) == value


BAD = [
    ("BAKERY_NAME", ""),
    ("BAKERY_NAME", "a" * 25),
    ("BAKERY_NAME", "Mlflow"),
    ("BAKERY_NAME", "../x"),
    ("BAKERY_NAME", "x-"),
    ("BAKERY_NAME", "x\n"),
    ("BAKERY_HOSTNAME", "localhost"),
    ("BAKERY_HOSTNAME", "M.example.org"),
    ("BAKERY_HOSTNAME", "m_.example.org"),
    ("BAKERY_HOSTNAME", "-m.example.org"),
    ("BAKERY_HOSTNAME", f"{'a' * 64}.b"),
    ("BAKERY_HOSTNAME", ".".join(["a" * 60] * 5)),
    ("BAKERY_HOSTNAME", "10.88.0.2"),
    ("BAKERY_HOSTNAME", "m.example.org\n"),
    ("BAKERY_USERNAME", ""),
    ("BAKERY_USERNAME", "a:b"),
    ("BAKERY_USERNAME", "a\tb"),
    ("BAKERY_USERNAME", "x" * 73),
    ("BAKERY_PASSWORD", ""),
    ("BAKERY_PASSWORD", "x" * 73),
    ("BAKERY_PASSWORD", "ä" * 37),
    ("BAKERY_PASSWORD", "a\nb"),
    ("BAKERY_PASSWORD", "a\x7fb"),
    ("BAKERY_PASSWORD", os.fsdecode(b"a\xffb")),
    ("BAKERY_MYSQL_USER", "root"),
    ("BAKERY_MYSQL_USER", ""),
    ("BAKERY_MYSQL_USER", "x" * 33),
    ("BAKERY_MYSQL_PASSWORD", ""),
    ("BAKERY_STORAGE_ACCOUNT", "ab"),
    ("BAKERY_STORAGE_ACCOUNT", "My-Account"),
    ("BAKERY_STORAGE_CONTAINER", "a--b"),
    ("BAKERY_STORAGE_CONTAINER", "-ab"),
    ("BAKERY_STORAGE_CONTAINER", "ab"),
    ("BAKERY_STORAGE_ACCESS_KEY", "not base64!"),
    ("BAKERY_STORAGE_ACCESS_KEY", KEY[:-1]),
    ("BAKERY_STORAGE_ACCESS_KEY", ""),
    ("BAKERY_REGISTRY", "https://docker.io"),
    ("BAKERY_REGISTRY", ""),
    ("BAKERY_BASE", "ubuntu-18.04"),
    ("BAKERY_TARGET", "moon"),
    ("BAKERY_CONTAINER_SOURCE", "both"),
    ("BAKERY_DISK_GIB", "7"),
    ("BAKERY_DISK_GIB", "many"),
    ("BAKERY_BOOT_SECONDS", "0"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_are_refused_by_their_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    message = str(refusal())
    assert message.startswith(f"{name.removeprefix('BAKERY_').lower()}: "), message
    assert "\n" not in message
    if "PASSWORD" in name or "KEY" in name:
        assert not value or value not in message


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "a:b")
    monkeypatch.setenv("BAKERY_NAME", "A")
    assert "name: " in str(refusal())
    assert "username: must not hold a colon" in str(refusal())


@pytest.mark.parametrize("half", ["CERTIFICATE", "CERTIFICATE_KEY"])
def test_half_a_certificate_is_refused(monkeypatch: pytest.MonkeyPatch, half: str) -> None:
    monkeypatch.setenv(f"BAKERY_{half}", "/x.pem")
    assert "go together" in str(refusal())
    monkeypatch.setenv("BAKERY_CERTIFICATE", "/x.pem")
    monkeypatch.setenv("BAKERY_CERTIFICATE_KEY", "/y.pem")
    assert settings.load().certificate_key == Path("/y.pem")


def test_paths_begin_where_they_are_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file.write_text('certificate = "chain.pem"\ncertificate_key = "~/key.pem"\n')
    found = settings.load()
    assert found.certificate == file.parent / "chain.pem"
    assert found.certificate_key == Path.home() / "key.pem"
    assert found.state_dir == settings._PROJECT / ".bakery"
    monkeypatch.setenv("BAKERY_STATE_DIR", "here")
    assert settings.load().state_dir == tmp_path / "here"


def test_the_project_s_file_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BAKERY_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert settings.config_file() == Path(__file__).parents[2] / "bakery.toml"
    project = tmp_path / "project"
    project.mkdir()
    (project / "bakery.toml").write_text('name = "found"\nstate_dir = "state"\n')
    monkeypatch.setattr(settings, "_FILE", project / "bakery.toml")
    found = settings.load()
    assert (found.name, found.state_dir) == ("found", project / "state")


def test_secrets_are_not_in_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55word")
    monkeypatch.setenv("MYSQL_PASSWORD", "my5ql")
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", KEY)
    found = settings.load()
    assert secret(found.password) == "pa55word"
    assert secret(found.mysql_password) == "my5ql"
    assert not any(one in f"{found!r} {found}" for one in ("pa55word", "my5ql", KEY))


def test_generated_passwords_are_long_and_differ() -> None:
    one, other = settings.generate_password(), settings.generate_password()
    assert one != other
    assert len(one) == 32
    assert one.replace("-", "").replace("_", "").isalnum()
