"""The local certificate authority and the server's certificate.

Both keys stay in the deployment's folder; the leaf is renewed at two thirds of its life, the
authority never, so that clients' `ca_file` does not change.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bakery.errors import InputError
from bakery.state import write_atomically

if TYPE_CHECKING:
    from bakery.settings import Settings

_T = TypeVar("_T")
_CA_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=397)


@dataclass(frozen=True)
class Certificate:
    """A certificate chain and its key, both PEM."""

    chain: str
    key: str


def local_certificate(folder: Path, hostname: str, address: str) -> Certificate:
    """Return a valid certificate for a name and an address, made or renewed where needed."""
    ca_key, ca = _authority(folder)
    chain, key = folder / "server.pem", folder / "server.key"
    if not (chain.exists() and key.exists() and _serves(chain, key, hostname, address, ca)):
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf(hostname, address, leaf_key, ca, ca_key)
        write_atomically(key, _pem(leaf_key))
        write_atomically(chain, leaf.public_bytes(serialization.Encoding.PEM).decode())
    return Certificate(chain=chain.read_text(), key=key.read_text())


def ca_file(folder: Path) -> Path:
    """Return where the authority's certificate lies, which clients trust."""
    return folder / "ca.pem"


def given_certificate(settings: "Settings", hostname: str) -> Certificate | None:
    """Read and check the certificate that the user brings; None if there is none.

    Raises:
        InputError: A file cannot be read or parsed, the key is another's, the certificate is not
            for this name, is not valid now, or another authority signed it.
    """
    chain, key = settings.certificate, settings.certificate_key
    if chain is None or key is None:
        return None
    certificates = _read(chain, x509.load_pem_x509_certificates)
    certificate = certificates[0]
    loaded = _read(key, lambda data: serialization.load_pem_private_key(data, password=None))
    if loaded.public_key() != certificate.public_key():
        raise InputError(f"{key} is not the key of {chain}", hint="give the two that go together")
    _refuse_out_of_date(chain, certificate)
    names = _names(certificate)
    wildcard = "*." + hostname.partition(".")[2]
    if hostname not in names and wildcard not in names:
        raise InputError(
            f"{chain} is for {', '.join(names) or 'no name'}, not for {hostname}",
            hint="set hostname to a name in the certificate",
        )
    if settings.certificate_root:
        _refuse_another_authority(chain, certificates, settings.certificate_root)
    return Certificate(chain=chain.read_text("utf-8", "replace"), key=key.read_text("utf-8"))


def _refuse_another_authority(
    chain: Path, certificates: Sequence[x509.Certificate], root: Path
) -> None:
    roots = _read(root, x509.load_pem_x509_certificates)
    signed = all(_signed(one, by) for one, by in pairwise(certificates))
    if not (
        signed and any(certificates[-1] == one or _signed(certificates[-1], one) for one in roots)
    ):
        raise InputError(
            f"{chain} does not lead to an authority in {root}",
            hint="the chain needs every certificate between yours and that authority's",
        )


def _refuse_out_of_date(chain: Path, certificate: x509.Certificate) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < datetime.now(UTC):
        raise InputError(f"{chain} expired on {end:%Y-%m-%d}", hint="renew it")
    if begin > datetime.now(UTC):
        raise InputError(
            f"{chain} is not valid before {begin:%Y-%m-%d %H:%M} UTC", hint="is the clock right?"
        )


def expiry(chain: Path) -> datetime:
    """Return when a certificate file expires."""
    return x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc


def _read(path: Path, parse: Callable[[bytes], _T]) -> _T:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="check the path") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is not PEM, or is encrypted", hint=str(error)[:200]) from error


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file, file = folder / "ca.key", ca_file(folder)
    if not (key_file.exists() and file.exists()):
        made = ec.generate_private_key(ec.SECP256R1())
        write_atomically(key_file, _pem(made))
        pem = _self_signed(made).public_bytes(serialization.Encoding.PEM).decode()
        write_atomically(file, pem, mode=0o644)
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{key_file} is not ours", hint="remove the tls folder to make new ones")
    return key, x509.load_pem_x509_certificate(file.read_bytes())


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mlflow-bakery local CA")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key.public_key(), _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    hostname: str,
    address: str,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    names = [x509.DNSName(hostname), x509.IPAddress(ipaddress.ip_address(address))]
    ca_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(name, ca.subject, key.public_key(), _LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
    )


def _serves(chain: Path, key: Path, hostname: str, address: str, ca: x509.Certificate) -> bool:
    leaf = x509.load_pem_x509_certificate(chain.read_bytes())
    # A kill between the two writes leaves the one's new beside the other's old.
    pair = serialization.load_pem_private_key(key.read_bytes(), password=None)
    extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    renew_at = leaf.not_valid_before_utc + _LEAF_LIFE * 2 / 3
    return (
        pair.public_key() == leaf.public_key()
        and _signed(leaf, ca)
        and hostname in extension.get_values_for_type(x509.DNSName)
        and ipaddress.ip_address(address) in extension.get_values_for_type(x509.IPAddress)
        and datetime.now(UTC) < renew_at
    )


def _signed(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
