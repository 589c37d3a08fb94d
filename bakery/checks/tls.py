"""Checks of TLS: a certificate that clients may trust, and no protocol from before 2008."""

import datetime as dt
import socket
import ssl
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bakery.checks.door import Door
from bakery.checks.result import CheckFailed, expect

_OLD = {"TLS 1.0": ssl.TLSVersion.TLSv1, "TLS 1.1": ssl.TLSVersion.TLSv1_1}
_TIMEOUT = 10


def chain_is_valid(door: Door) -> str:
    """The certificate is valid for the public name and signed by the CA that clients trust."""
    context = ssl.create_default_context(cafile=str(door.ca_file) if door.ca_file else None)
    with (
        socket.create_connection((door.address, door.https), _TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=door.hostname) as secure,
    ):
        certificate = secure.getpeercert(binary_form=True)
        version = secure.version()
    expect(certificate, "the server showed no certificate")
    ends = x509.load_der_x509_certificate(certificate or b"").not_valid_after_utc
    days = (ends - dt.datetime.now(dt.UTC)).days
    return f"{version}, valid for {days} more days"


def old_versions_refused(door: Door) -> str:
    """TLS 1.0 and 1.1 are refused to a client that a more lenient server lets in."""
    for name, version in _OLD.items():
        with lenient_server() as port:
            spoken = _speak(version, "127.0.0.1", port, "localhost")
        expect(spoken, f"this host cannot speak {name}, so a refusal would prove nothing")
        try:
            _speak(version, door.address, door.https, door.hostname)
        except ssl.SSLError as refusal:
            # The server's own alert; a fault on our side has other reasons.
            expect("ALERT" in (refusal.reason or ""), f"{name} failed by itself: {refusal}")
        except (ConnectionResetError, ssl.SSLEOFError):
            continue
        else:
            raise CheckFailed(f"{name} was accepted")
    return "refused; a lenient server on loopback accepted the same client"


def _speak(version: ssl.TLSVersion, address: str, port: int, hostname: str) -> str | None:
    context = _context(ssl.PROTOCOL_TLS_CLIENT, version)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), _TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=hostname) as secure,
    ):
        return secure.version()


def _context(side: int, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    # Without this the client offers no cipher at all and any server seems to refuse.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = version
        if side == ssl.PROTOCOL_TLS_CLIENT:
            context.maximum_version = version
    return context


@contextmanager
def lenient_server() -> Iterator[int]:
    """Give the port of a server on loopback that accepts one client with any TLS from 1.0 on."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1)
    with tempfile.TemporaryDirectory(prefix="bakery-tls-") as folder:
        context.load_cert_chain(_throwaway_certificate(Path(folder)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT)
        thread = threading.Thread(target=_accept_one, args=(listener, context), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(_TIMEOUT)


def _accept_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    try:
        plain, _ = listener.accept()
        with plain, context.wrap_socket(plain, server_side=True) as secure:
            secure.settimeout(_TIMEOUT)
            secure.recv(1)
    except OSError:
        # The client's side of the same failure is what the check reports.
        return


def _throwaway_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
