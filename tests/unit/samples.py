"""Values that several tests need."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from bakery.bases import Base
from bakery.containers import ContainerImage
from bakery.manifest import BaseInfo, ContainerInfo, Manifest
from bakery.targets.base import SshAccess

GOLDEN = Path(__file__).parent / "golden"
ALL_SYMBOLS = "".join(chr(code) for code in range(33, 127))
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def assert_golden(name: str, found: str) -> None:
    """Compare with a file that `GOLDEN=write pytest` writes anew."""
    file = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8")


def certificate_files(
    folder: Path, *names: str, begin_days: int = -1, end_days: int = 30
) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key as a user brings them."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "user's own")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=begin_days))
        .not_valid_after(now + timedelta(days=end_days))
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(alternative, critical=False)
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, key


def base(digest: str = "sha256:base") -> Base:
    return Base("debian-13", "debian-13", Path("/nowhere/disk.raw"), digest, "mmdebstrap")


def container(name: str = "mlflow", image_id: str = "sha256:1") -> ContainerImage:
    return ContainerImage(
        name=name,
        reference=f"mlflow-bakery/{name}:1",
        image_id=image_id,
        version="1",
        source="packages",
        archive=Path("/nowhere") / f"{name}.tar",
    )


def manifest(image: str, key: str = "key", created: int = 0) -> Manifest:
    """A manifest; `created` is in minutes after a fixed time."""
    info = {"reference": "r", "image_id": "i", "version": "3", "source": "packages", "size": 1}
    return Manifest(
        id=image,
        bake_key=key,
        created=datetime(2026, 1, 1, 0, created, tzinfo=UTC),
        base=BaseInfo(name="b", requested="b", digest="d", source="s", fallback=""),
        containers=[ContainerInfo.model_validate({"name": "mlflow", **info})],
        packages={},
        disk_size=1,
        disk_used=2 << 30,
        timings=[],
    )


def access(folder: Path = Path("/nowhere")) -> SshAccess:
    return SshAccess(
        host="192.0.2.2", user="bake", key=folder / "id_ed25519", known_hosts=folder / "known_hosts"
    )


def secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
