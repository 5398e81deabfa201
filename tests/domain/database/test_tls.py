"""TLS towards both servers: a certificate that is not right ends the matter before anything is said; and what each PUT carries."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from strongroom.database.session import open_source
from strongroom.errors import SourceAccessError, StoreAccessError, StoreError
from strongroom.ledger.holds import covered, place_hold, release_hold
from strongroom.retention.certificate import Approval
from strongroom.retention.decide import judge
from strongroom.retention.purge import purge_archive
from strongroom.settings import StoreSettings
from strongroom.storage.purge_store import PurgeStore
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from strongroom_local.servers.ports import LOOPBACK
from tests.support.chain import NOW, RUN, Chain, some_settings
from tests.support.database import AUDIT, execute
from tests.support.proxies import Exchange, HoldingProxy, proxied_client
from tests.support.restoring import restore

SSL_REQUEST = struct.pack("!II", 8, 80877103)


# ------------------------------------------------------------------------------------------------------- certificates


class Authority:
    """Signs certificates of servers, into files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(self._sign(self._name, self._key, authority=True))

    def context(self, host: str, *, ended: bool = False) -> ssl.SSLContext:
        """What a server shows who has a certificate for a host name; `ended` makes one that ran out yesterday."""
        key = ec.generate_private_key(ec.SECP256R1())
        pair = self._folder / "pair.pem"
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        pair.write_bytes(encoded + self._sign(name, key, host=host, ended=ended))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        authority: bool = False,
        host: str = "",
        ended: bool = False,
    ) -> bytes:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now - timedelta(days=1) if ended else now + timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if host:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            names += [x509.IPAddress(ip_address(host))] if host[0].isdigit() else []
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path, "trusted")


@pytest.fixture
def stranger(tmp_path) -> Authority:
    return Authority(tmp_path, "stranger")


class TlsServer:
    """Speaks TLS in front of a server that does not, and counts who came through.

    Args:
        target: The server's port on this machine.
        context: Its certificate; None declines TLS, as a server without any does.
        postgres: Whether the client asks for TLS first, as PostgreSQL's does.
    """

    def __init__(self, target: int, context: ssl.SSLContext | None, *, postgres: bool) -> None:
        self._target, self._context, self._postgres = target, context, postgres
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.came_through = 0

    def __enter__(self) -> TlsServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self._postgres:
                assert client.recv(len(SSL_REQUEST), socket.MSG_WAITALL) == SSL_REQUEST
                client.sendall(b"N" if self._context is None else b"S")
            if self._context is None:
                client.recv(1)
                return
            with (
                self._context.wrap_socket(client, server_side=True) as near,
                socket.create_connection((LOOPBACK, self._target)) as far,
            ):
                first = near.recv(1 << 16)
                if not first:
                    return
                self.came_through += 1
                far.sendall(first)
                back = threading.Thread(target=_pour, args=(far, near), daemon=True)
                back.start()
                _pour(near, far)
                back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(params=["unknown authority", "another host", "ended", "no TLS"])
def wrong(request, authority, stranger) -> ssl.SSLContext | None:
    """What a server shows that is not the right one."""
    made = {
        "unknown authority": lambda: stranger.context("localhost"),
        "another host": lambda: authority.context("db.example.org"),
        "ended": lambda: authority.context("localhost", ended=True),
        "no TLS": lambda: None,
    }
    return made[request.param]()


# --------------------------------------------------------------------------------------------------------- PostgreSQL


def test_the_source_is_reached_through_tls(source, postgres, authority):
    with TlsServer(postgres.port, authority.context("localhost"), postgres=True) as server:
        conninfo = make_conninfo(
            source, host="localhost", port=server.port, sslmode="verify-full", sslrootcert=str(authority.file)
        )
        with open_source(conninfo, application_name="test") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

        assert server.came_through == 1


def test_a_source_with_a_wrong_certificate_is_told_nothing(source, postgres, authority, wrong):
    """No login, no retry: the error speaks of the certificate, and of no password."""
    with TlsServer(postgres.port, wrong, postgres=True) as server:
        conninfo = make_conninfo(
            source, host="localhost", port=server.port, sslmode="verify-full", sslrootcert=str(authority.file)
        )
        with (
            pytest.raises(SourceAccessError, match=r"certificate|does not support SSL") as raised,
            open_source(conninfo, application_name="test"),
        ):
            pytest.fail("somebody let us in")

        assert server.came_through == 0
        assert postgres.password not in str(raised.value)
        assert not raised.value.retryable


# ------------------------------------------------------------------------------------------------------------------ S3


def tls_store(object_store, bucket: str, server: TlsServer) -> Store:
    """The product's own client of a store behind TLS."""
    access_key, secret_key = object_store.keys("archiver")
    settings = StoreSettings(bucket=bucket, endpoint_url=f"https://localhost:{server.port}", max_attempts=1)
    session = boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key)
    return Store(make_client(settings, session=session), settings)


@pytest.fixture
def trusting(monkeypatch, authority) -> Iterator[None]:
    """boto3 trusts the authority."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    return None


@pytest.mark.usefixtures("trusting")
def test_the_store_is_reached_through_tls(object_store, bucket, authority):
    with TlsServer(object_store.port, authority.context("localhost"), postgres=False) as server:
        store = tls_store(object_store, bucket, server)

        store.put_bytes("reports/x.json", b"{}")

        assert store.read("reports/x.json") is not None
        assert server.came_through >= 1


@pytest.mark.usefixtures("trusting")
def test_a_store_with_a_wrong_certificate_is_told_nothing(object_store, bucket, wrong):
    if wrong is None:
        wrong = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # has no certificate at all to show
    with TlsServer(object_store.port, wrong, postgres=False) as server:
        store = tls_store(object_store, bucket, server)

        with pytest.raises((StoreAccessError, StoreError)) as raised:
            store.put_bytes("reports/x.json", b"{}")

        assert server.came_through == 0
        assert isinstance(raised.value, StoreAccessError) == ("certificate verify failed" in str(raised.value))
        assert object_store.keys("archiver")[1] not in str(raised.value)


# ----------------------------------------------------------------------------------------------------------- each PUT


def test_each_put_of_a_whole_life_carries_a_checksum_and_a_condition(source, object_store, bucket, tmp_path):
    """Archive, hold, verify, restore, release, purge: nothing is written over unseen, and nothing arrives changed."""
    puts: list[tuple[str, dict[str, str]]] = []

    def record(exchange: Exchange) -> None:
        puts.append((exchange.path, {name.lower(): value for name, value in exchange.headers.items()}))
        exchange.answer(exchange.forward())

    with HoldingProxy() as proxy:
        proxy.forward_to(LOOPBACK, object_store.port)
        proxy.on("PUT", "/", record, times=1_000_000)
        settings = some_settings(bucket, tmp_path, part_rows=300)
        chain = Chain(source, proxied_client(object_store, proxy), settings)
        execute(source, AUDIT)

        archive = chain.run().archive_id
        hold = place_hold(chain.store, covered("public", "audit"), why="a test", who="ada", reference="1", now=NOW)
        release_hold(chain.store, hold.hold_id, who="ada", reason="over", now=NOW)
        restore(chain)
        later = NOW + timedelta(days=4000)
        [decision] = judge(chain.store, now=later)
        purger = PurgeStore(proxied_client(object_store, proxy, "purger"), settings.store)
        approval = Approval(approved=True, by="ada", at=later)
        purged = purge_archive(
            chain.store, purger, decision, approval, run=RUN, now=later, claim_ttl=timedelta(hours=1)
        )

    assert (decision.archive_id, purged.result) == (archive, "purged")
    folders = {path.split("/")[2] for path, _ in puts}
    assert folders >= {"archives", "metadata", "evidence", "holds", "restores", "reports", "claims"}
    for path, headers in puts:
        assert "x-amz-checksum-sha256" in headers, path
        assert headers.keys() & {"if-none-match", "if-match"}, path
        assert headers["x-amz-server-side-encryption"] == "AES256", path
