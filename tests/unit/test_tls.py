"""The local authority and its certificates, and those that a user brings."""

import ipaddress
import ssl
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bakery import tls
from bakery.errors import InputError
from bakery.settings import Settings
from tests.unit.samples import certificate_files

HOST, ADDRESS = "mlflow.bakery.internal", "10.88.0.2"


def leaf(made: tls.Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.chain.encode())


def test_the_certificate_is_for_name_and_address_and_signed_by_the_authority(
    tmp_path: Path,
) -> None:
    made = tls.local_certificate(tmp_path, HOST, ADDRESS)
    ca = x509.load_pem_x509_certificate(tls.ca_file(tmp_path).read_bytes())
    leaf(made).verify_directly_issued_by(ca)
    names = leaf(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(ADDRESS)]
    key = serialization.load_pem_private_key(made.key.encode(), password=None)
    assert key.public_key() == leaf(made).public_key()
    context = ssl.create_default_context(cafile=str(tls.ca_file(tmp_path)))
    assert len(context.get_ca_certs()) == 1


def test_keys_are_secret_and_the_authority_is_not(tmp_path: Path) -> None:
    tls.local_certificate(tmp_path, HOST, ADDRESS)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"ca.key": 0o600, "ca.pem": 0o644, "server.key": 0o600, "server.pem": 0o600}


def test_nothing_changes_until_something_must(tmp_path: Path) -> None:
    first = tls.local_certificate(tmp_path, HOST, ADDRESS)
    ca = tls.ca_file(tmp_path).read_bytes()
    assert tls.local_certificate(tmp_path, HOST, ADDRESS) == first
    assert tls.local_certificate(tmp_path, "other.bakery.internal", ADDRESS) != first
    second = tls.local_certificate(tmp_path, HOST, ADDRESS)
    assert tls.local_certificate(tmp_path, HOST, "10.88.0.18") != second
    assert tls.ca_file(tmp_path).read_bytes() == ca


def test_it_is_renewed_at_two_thirds_of_its_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tls.local_certificate(tmp_path, HOST, ADDRESS)

    class Later(datetime):
        days = 263

        @classmethod
        def now(cls, tz: tzinfo | None = UTC) -> "Later":
            return cls.fromtimestamp(time.time(), tz) + timedelta(days=cls.days)

    monkeypatch.setattr(tls, "datetime", Later)
    assert tls.local_certificate(tmp_path, HOST, ADDRESS) == first
    Later.days = 266
    assert tls.local_certificate(tmp_path, HOST, ADDRESS) != first
    assert tls.expiry(tmp_path / "server.pem") > Later.now() + timedelta(days=300)


def test_what_a_kill_left_half_written_is_made_anew(tmp_path: Path) -> None:
    other = tls.local_certificate(tmp_path / "other", HOST, ADDRESS)
    tls.local_certificate(tmp_path, HOST, ADDRESS)
    (tmp_path / "server.key").write_text(other.key)
    made = tls.local_certificate(tmp_path, HOST, ADDRESS)
    key = serialization.load_pem_private_key(made.key.encode(), password=None)
    assert key.public_key() == leaf(made).public_key()


def test_another_authority_means_another_certificate(tmp_path: Path) -> None:
    first = tls.local_certificate(tmp_path, HOST, ADDRESS)
    (tmp_path / "ca.pem").unlink()
    made = tls.local_certificate(tmp_path, HOST, ADDRESS)
    assert made != first
    ca = x509.load_pem_x509_certificate(tls.ca_file(tmp_path).read_bytes())
    leaf(made).verify_directly_issued_by(ca)


@pytest.mark.parametrize("name", [HOST, "*.bakery.internal"])
def test_a_certificate_of_the_user_s_is_taken(tmp_path: Path, name: str) -> None:
    chain, key = certificate_files(tmp_path, "other.example.org", name)
    made = tls.given_certificate(given(chain, key), HOST)
    assert made
    assert (made.chain, made.key) == (chain.read_text(), key.read_text())


def given(chain: Path, key: Path, root: Path | None = None) -> Settings:
    return Settings(certificate=chain, certificate_key=key, certificate_root=root)


def refusal(chain: Path, key: Path, root: Path | None = None) -> InputError:
    with pytest.raises(InputError) as refused:
        tls.given_certificate(given(chain, key, root), HOST)
    assert refused.value.hint
    assert "PRIVATE KEY" not in f"{refused.value} {refused.value.hint}"
    return refused.value


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    told = str(refusal(*certificate_files(tmp_path, "*.example.org", "*.internal")))
    assert f"is for *.example.org, *.internal, not for {HOST}" in told
    assert "is for no name" in str(refusal(*certificate_files(tmp_path)))


def test_a_certificate_of_another_time_is_refused(tmp_path: Path) -> None:
    old = certificate_files(tmp_path, HOST, begin_days=-30, end_days=-1)
    assert "expired on 20" in str(refusal(*old))
    early = certificate_files(tmp_path, HOST, begin_days=2)
    assert "not valid before 20" in str(refusal(*early))


def test_another_s_key_is_refused(tmp_path: Path) -> None:
    chain, _key = certificate_files(tmp_path, HOST)
    tls.local_certificate(tmp_path / "ours", HOST, ADDRESS)
    assert "is not the key of" in str(refusal(chain, tmp_path / "ours" / "server.key"))


def test_none_is_given() -> None:
    assert tls.given_certificate(Settings(), HOST) is None


def test_a_chain_must_lead_to_the_authority_that_is_named(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        tls.local_certificate(folder, HOST, ADDRESS)
    chain, key = ours / "server.pem", ours / "server.key"
    assert tls.given_certificate(given(chain, key, tls.ca_file(ours)), HOST)
    assert "does not lead to" in str(refusal(chain, key, tls.ca_file(others)))
    assert "is not PEM" in str(refusal(chain, key, key))
    whole = tmp_path / "whole.pem"
    whole.write_bytes(chain.read_bytes() + tls.ca_file(ours).read_bytes())
    assert tls.given_certificate(given(whole, key, tls.ca_file(ours)), HOST)
    whole.write_bytes(chain.read_bytes() + tls.ca_file(others).read_bytes())
    assert "does not lead to" in str(refusal(whole, key, tls.ca_file(others)))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    chain, key = certificate_files(tmp_path, HOST)
    assert "No such file" in str(refusal(chain, tmp_path / "nothing.pem"))
    assert "Is a directory" in str(refusal(tmp_path, key))
    assert "is not PEM" in str(refusal(key, key))
    assert "is not PEM" in str(refusal(chain, chain))
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert "is not PEM" in str(refusal(empty, key))
    loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
    locked = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    key.write_bytes(locked)
    assert "is encrypted" in str(refusal(chain, key))
