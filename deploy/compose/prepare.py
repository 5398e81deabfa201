"""Prepare the volumes of docker-compose.yaml: certificates, the store's identities and keys, the UI's password.

Runs as root in a container without a network, before everything else and at every start. It keeps certificates that are
still good, and rewrites the rest from the environment. The authority's key is never stored, so nobody can sign another
certificate.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom_local.servers.s3 import policies_of, read_policies  # noqa: TID251 (compose is for development too)

Give = Callable[[Path, int, int], None]
"""Changes the owner and group of a file or folder, like os.chown."""

POSTGRES = (999, 999)
STORE = (1000, 1000)
AIRFLOW = (50000, 0)
"""User and group in the images of PostgreSQL, SeaweedFS and Airflow."""

OWNERS = {
    "trust": AIRFLOW,
    "auth": AIRFLOW,
    "staging": AIRFLOW,
    "logs": AIRFLOW,
    "source-tls": POSTGRES,
    "store-config": STORE,
    "store-data": STORE,
}
"""Each prepared volume and its owner."""

SERVERS = {"source": "source-tls", "store": "store-config"}
"""Host name in the compose network, and the volume for its key."""

GRPC_ROLES = ("client", "master", "volume", "filer", "s3", "admin", "worker", "mq", "msg_broker", "msg_agent")

POLICIES = Path(__file__).resolve().parents[1] / "s3"
"""The policies of the store's identities, in the folder beside this one, in the repository and in the image."""

IDENTITIES = ("keeper", "archiver", "purger", "reader", "logger", "iceberg")

COPIED = {"source-tls": "pg_hba.conf", "store-config": "write-fsync.sh"}
"""Files beside this script that other users read. They are copied, because those users may not reach the clone."""

GOOD_FOR = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=60)


def prepare(root: Path, environ: Mapping[str, str], *, now: datetime, give: Give = os.chown) -> None:
    """Fill the volumes and set their owners.

    Args:
        root: Folder with one folder per volume, named as in `OWNERS`.
        environ: STORE_<IDENTITY>_ACCESS_KEY and _SECRET_KEY for each of `IDENTITIES`, STORE_ENCRYPTION_KEY,
            AIRFLOW_ADMIN_PASSWORD.
        now: Aware instant for the validity of certificates.
        give: Changes the owner of a file.

    Raises:
        KeyError: A variable is missing.
    """
    if not are_good(root, now=now):
        make_certificates(root, now=now)
    config = root / "store-config"
    write(config / "identities.json", json.dumps(describe_identities(environ), indent=2))
    write(config / "security.toml", describe_security(environ["STORE_ENCRYPTION_KEY"]))
    for volume, name in COPIED.items():
        write(root / volume / name, Path(__file__).with_name(name).read_text())
    write(root / "auth" / "passwords.json", json.dumps({"admin": environ["AIRFLOW_ADMIN_PASSWORD"]}))
    for volume, owner in OWNERS.items():
        folder = root / volume
        # Every user who connects needs to read the authority's certificate.
        folder.chmod(0o755 if volume == "trust" else 0o700)
        for path in (folder, *(own for own in folder.iterdir() if own.is_file())):
            give(path, *owner)


def are_good(root: Path, *, now: datetime) -> bool:
    """Whether each server has a key and a certificate from the trusted authority that does not expire soon."""
    try:
        authority = read_certificate(root / "trust" / "authority.crt")
        for volume in SERVERS.values():
            certificate = read_certificate(root / volume / "server.crt")
            certificate.verify_directly_issued_by(authority)
            if certificate.not_valid_after_utc - now < RENEW_BEFORE or not (root / volume / "server.key").exists():
                return False
    except (OSError, ValueError, InvalidSignature):
        return False
    return True


def make_certificates(root: Path, *, now: datetime) -> None:
    """Create an authority, and for each server a key and a certificate for its network name and localhost."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = issue("strongroom compose authority", authority_key, authority_key, None, now=now)
    for host, volume in SERVERS.items():
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = issue(host, key, authority_key, authority, now=now)
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write(root / volume / "server.key", encoded.decode())
        write(root / volume / "server.crt", encode(certificate))
    # SeaweedFS's processes authenticate to each other with the server's certificate, signed by this authority.
    write(root / "store-config" / "authority.crt", encode(authority))
    write(root / "trust" / "authority.crt", encode(authority), mode=0o644)


def issue(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signing_key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    *,
    now: datetime,
) -> x509.Certificate:
    """Issue a server's certificate; without an issuer, a self-signed authority's."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + GOOD_FOR)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .add_extension(describe_usage(signs=issuer is None), critical=True)
    )
    if issuer is not None:
        names = [x509.DNSName(name), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def describe_usage(*, signs: bool) -> x509.KeyUsage:
    """Describe what a key is for: signing certificates, or authenticating a server."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def describe_identities(environ: Mapping[str, str]) -> dict[str, object]:
    """Describe the store's identities and policies. No identity may do everything."""
    identities = []
    for name in IDENTITIES:
        keys = {
            "accessKey": environ[f"STORE_{name.upper()}_ACCESS_KEY"],
            "secretKey": environ[f"STORE_{name.upper()}_SECRET_KEY"],
        }
        identities.append({"name": name, "credentials": [keys], "policyNames": policies_of(name)})
    return {"identities": identities, "policies": read_policies(POLICIES)}


def describe_security(encryption_key: str) -> str:
    """Return SeaweedFS's security.toml, which it reads from its working folder.

    The gRPC ports require a certificate from the authority, because anyone who can use them can add identities. Objects
    are encrypted with a key derived from `encryption_key`. Without it they cannot be read.
    """
    lines = ["[s3.sse]", f"key = {json.dumps(encryption_key)}", "[grpc]", 'ca = "authority.crt"']
    for role in GRPC_ROLES:
        lines += [f"[grpc.{role}]", 'cert = "server.crt"', 'key = "server.key"']
    return "\n".join(lines) + "\n"


def read_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def encode(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file atomically. Only its owner may read it, unless `mode` says otherwise."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:
        handle.write(text)
    partial.chmod(mode)
    partial.replace(path)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), os.environ, now=datetime.now(timezone.utc))
