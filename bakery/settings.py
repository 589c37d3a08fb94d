"""What the user sets: one typed model, from defaults, bakery.toml, the environment, the call."""

import base64
import difflib
import os
import re
import secrets
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bakery.azure.settings import AzureSettings
from bakery.errors import InputError

_PROJECT = Path(__file__).parents[1]
_FILE = _PROJECT / "bakery.toml"
_STATE_DIR = Path(".bakery")
_PATHS = (
    "state_dir", "mlflow_lock", "certificate", "certificate_key",
    "certificate_root",
    "azure_ca_bundle", "acme_ca", "acme_root",
)  # fmt: skip
_PREFIX = "BAKERY_"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_MAX_PASSWORD_BYTES = 72  # bcrypt's limit: Traefik would ignore the rest
# The environment names of the blog's scripts, which work too.
BLOG_NAMES = {
    "hostname": "MLFLOW_TRACKING_HOSTNAME",
    "username": "MLFLOW_TRACKING_USERNAME",
    "password": "MLFLOW_TRACKING_PASSWORD",
    "mysql_user": "MYSQL_USER",
    "mysql_password": "MYSQL_PASSWORD",
    "storage_account": "AZURE_STORAGE_ACCOUNT",
    "storage_container": "AZURE_STORAGE_CONTAINER",
    "storage_access_key": "AZURE_STORAGE_ACCESS_KEY",
    "azure_resource_group": "AZURE_RESOURCE_GROUP",
    "azure_location": "AZURE_RESOURCE_GROUP_LOCATION",
    # Not of the blog, but what Azure's own tools read.
    "azure_subscription": "AZURE_SUBSCRIPTION_ID",
    "azure_tenant": "AZURE_TENANT_ID",
}
# Read elsewhere: by ./inv and by config_file().
_USER_PASSWORD = "BAKERY_USER_PASSWORD"  # noqa: S105 (the name, not the value)
_OTHER_NAMES = {"BAKERY_INSTALL", "BAKERY_CONFIG", _USER_PASSWORD}


def _hostname(value: str) -> str:
    is_name = re.fullmatch(rf"{_LABEL}(\.{_LABEL})+", value) and not value[-1].isdigit()
    if len(value) > 253 or not is_name:
        raise ValueError("must be a full, lower-case host name such as mlflow.example.org")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,22}[a-z0-9])?", value):
        raise ValueError("must be 1 to 24 of a-z, 0-9 and '-', beginning with a letter")
    return value


def _account(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]{3,24}", value):
        raise ValueError("must be 3 to 24 of a-z and 0-9, as Azure wants of storage accounts")
    return value


def _container(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){2,62}", value):
        raise ValueError("must be 3 to 63 of a-z, 0-9 and single '-', as Azure wants of containers")
    return value


def _registry(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*", value):
        raise ValueError("must be HOST, HOST:PORT or HOST/PATH, without a scheme")
    return value


def _access_key(value: SecretStr) -> SecretStr:
    try:
        key = base64.b64decode(value.get_secret_value(), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("must be base64, as Azure shows it")
    return value


def _absolute(value: Path) -> Path:
    return value.expanduser().absolute()


def _username(value: str) -> str:
    if not 1 <= _size(value) <= _MAX_PASSWORD_BYTES:
        raise ValueError("must be 1 to 72 bytes")
    if ":" in value:
        raise ValueError("must not hold a colon: HTTP's basic login ends the user name there")
    return _printable(value)


def _password(value: SecretStr) -> SecretStr:
    size = _size(value.get_secret_value())
    if not 1 <= size <= _MAX_PASSWORD_BYTES:
        raise ValueError(f"must be 1 to 72 bytes of UTF-8 (bcrypt's limit), not {size}")
    _printable(value.get_secret_value())
    return value


def _mysql_user(value: str) -> str:
    if value == "root":
        raise ValueError("must not be root, MySQL's own administrator: choose another name")
    if not 1 <= len(value) <= 32:
        raise ValueError("must be 1 to 32 characters, as MySQL wants")
    return _printable(value)


def _size(value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError:  # from the environment, where any bytes may be
        raise ValueError("must be UTF-8") from None


def _printable(value: str) -> str:
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value):
        raise ValueError("must not hold control characters")
    return value


class Settings(AzureSettings, BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True,
        hide_input_in_errors=True, validate_default=False, case_sensitive=False,
    )  # fmt: skip

    name: Annotated[str, AfterValidator(_name)] = Field(
        default="mlflow", description="The deployment's name."
    )
    target: Literal["local", "azure"] = Field(
        default="local", description="Where it runs: on this host, or in `azure`."
    )
    state_dir: Annotated[Path, AfterValidator(_absolute)] = Field(
        default=_STATE_DIR, description="Caches, images and deployments lie here."
    )
    base: Literal["ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04", "debian-13"] | None = Field(
        default=None,
        description=(
            "The operating system that a bake starts from. Unset: ubuntu-20.04, or debian-13 where "
            "Ubuntu's site cannot be reached."
        ),
    )
    driver: Literal["nspawn"] = Field(
        default="nspawn", description="How the local target runs machines."
    )
    container_source: Literal["auto", "registry", "packages"] = Field(
        default="auto", description="Where the container images come from."
    )
    registry: Annotated[str, AfterValidator(_registry)] = Field(
        default="docker.io", description="The container registry, with a port where it needs one."
    )
    registry_tls_verify: bool = Field(
        default=True, description="Check the registry's certificate; false also allows plain HTTP."
    )
    mlflow_lock: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None,
        description=(
            "Bake another MLflow: its requirements, locked with hashes. Unset: the project's own."
        ),
    )
    disk_gib: Annotated[int, Field(ge=8, le=1024)] = Field(
        default=16, description="The size of a machine's own disk, in GiB."
    )
    data_disk_gib: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=16, description="The size of the data disk, in GiB."
    )
    hostname: Annotated[str, AfterValidator(_hostname)] | None = Field(
        default=None,
        description=(
            "The public name. Unset: NAME.bakery.internal, or one below cloudapp.azure.com."
        ),
    )
    username: Annotated[str, AfterValidator(_username)] = Field(
        default="mlflow",
        description="Who may log in.",
    )
    password: Annotated[SecretStr, AfterValidator(_password)] | None = Field(
        default=None,
        description="1 to 72 bytes, any printable symbol. Unset: generated at the first deploy.",
    )
    mysql_user: Annotated[str, AfterValidator(_mysql_user)] = Field(
        default="mlflow",
        description="MLflow's account in MySQL.",
    )
    mysql_password: Annotated[SecretStr, AfterValidator(_password)] | None = Field(
        default=None,
        description="Unset: generated on the machine, which it then never leaves.",
    )
    storage_account: Annotated[str, AfterValidator(_account)] = Field(
        default="devstoreaccount1",
        description="The account of the artifact store; on Azure a name is made unless given.",
    )
    storage_container: Annotated[str, AfterValidator(_container)] = Field(
        default="mlflow",
        description="The container of the artifact store.",
    )
    storage_access_key: Annotated[SecretStr, AfterValidator(_access_key)] | None = Field(
        default=None,
        description="The account's key. Unset: generated for Azurite.",
    )
    certificate: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="A certificate chain (PEM) of your own; unset: a local CA's."
    )
    certificate_key: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="The key of that certificate (PEM)."
    )
    certificate_root: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None,
        description="The authority (PEM) that signed it; unset: one that everybody trusts.",
    )
    boot_seconds: Annotated[int, Field(ge=1)] = Field(
        default=120, description="How long a machine may take until SSH answers."
    )
    ready_seconds: Annotated[int, Field(ge=1)] = Field(
        default=240, description="How long a machine may take from SSH to ready over HTTPS."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the call win over the environment, and that over bakery.toml."""
        del dotenv_settings, file_secret_settings
        others = (_from_blog_names(), _from_file())
        return init_settings, env_settings, *(InitSettingsSource(settings_cls, o) for o in others)


def user_password() -> SecretStr | None:
    """Return the password that the environment gives to a user who is added, if it does."""
    given = os.environ.get(_USER_PASSWORD)
    return None if given is None else SecretStr(given)


def check_login(name: str | None, password: SecretStr | None) -> None:
    """Refuse a user name or a password that a login cannot have; None is not looked at.

    Raises:
        InputError: Says why.
    """
    what = "name"
    try:
        if name is not None:
            _username(name)
        what = "password"
        if password is not None:
            _password(password)
    except ValueError as error:
        raise InputError(f"the {what} {error}") from None


def config_file() -> Path:
    """Return the path of the settings file: BAKERY_CONFIG, or the project's bakery.toml."""
    return Path(os.environ.get("BAKERY_CONFIG", _FILE))


def load(**given: object) -> Settings:
    """Read the settings; values that are None count as not given.

    Raises:
        InputError: A name is unknown (with the nearest valid one) or a value is refused.
    """
    _refuse_unknown_names()
    try:
        settings = Settings(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        raise InputError("; ".join(_lines(error)), hint="see bakery.example.toml") from None
    if (settings.certificate is None) != (settings.certificate_key is None):
        raise InputError("certificate and certificate_key go together", hint="give both or neither")
    if settings.certificate_root and not settings.certificate:
        raise InputError(
            "certificate_root without a certificate",
            hint="give certificate and certificate_key too",
        )
    return settings


def _lines(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(map(str, row['loc']))}: {row['msg'].removeprefix('Value error, ')}"
        for row in error.errors(include_input=False, include_url=False)
    ]


def _refuse_unknown_names() -> None:
    fields = set(Settings.model_fields)
    known = {f"{_PREFIX}{field}".upper() for field in fields} | _OTHER_NAMES
    for name in os.environ:
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            raise _unknown(name, known, "the environment")
    for name in _read_file():
        if name not in fields:
            raise _unknown(name, fields, str(config_file()))


def _from_blog_names() -> dict[str, Any]:
    return {field: os.environ[name] for field, name in BLOG_NAMES.items() if name in os.environ}


def _from_file() -> dict[str, Any]:
    """Return what the file sets; its relative paths begin at its own folder.

    The state folder is the project's wherever one calls from, unless something sets it.
    """
    found = {"state_dir": str(_PROJECT / _STATE_DIR), **_read_file()}
    folder = config_file().absolute().parent
    paths = {name: found[name] for name in _PATHS if isinstance(found.get(name), str)}
    return found | {name: str(folder / Path(path).expanduser()) for name, path in paths.items()}


def _read_file() -> dict[str, Any]:
    path = config_file()
    if not path.exists():
        if "BAKERY_CONFIG" in os.environ:
            raise InputError(f"{path}: no such file", hint="BAKERY_CONFIG names it")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}", hint="TOML: name = value, one a line") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="check its permissions") from error


def _unknown(name: str, known: set[str], place: str) -> InputError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return InputError(f"{place}: no setting is called {name}", hint=f"did you mean {near[0]}?")


def generate_password() -> str:
    """Return a strong password that no shell, URL or `mlflow run` can mangle."""
    return secrets.token_urlsafe(24)
