"""From an empty machine: a new AIRFLOW_HOME, an empty metadata database, an empty database, and nothing but a bucket and a kit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict

from strongroom.ledger.manifests import archive_ids
from strongroom.replication.archive import replicate_archive
from strongroom.replication.rest import replicate_rest
from strongroom.storage.store import Store
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import a_database, execute
from tests.support.deployment import Deployment, aws_connection, postgres_connection
from tests.support.logs import AUTHOR, KEY, kinds_of, with_log
from tests.support.repository import REPOSITORY

MONTHS = ("2026-04", "2026-05")
CALLS = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);
INSERT INTO audit SELECT n, '2026-04-01 00:00+00'::timestamptz + n * interval '1 hour', E'agent "' || n || E'" \\\\ \\t', n / 7.0
FROM generate_series(0, 1400) AS n;
"""
ROWS = "SELECT id, at, who, cost::text FROM {} WHERE at < '2026-06-01 00:00+00' ORDER BY id"


def rows_of(conninfo: str, table: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(ROWS.format(table)).fetchall()


@pytest.fixture
def lost(source, object_store, coming_buckets, tmp_path, deployment: Deployment, monkeypatch, airflow):
    """What there was before: two archived months, their second copies and a kit. Only the replica and the kit outlive it."""
    first, second = (next(coming_buckets).result() for _ in range(2))
    execute(source, CALLS)
    before = rows_of(source, "audit")
    chain = Chain(source, object_store.client("archiver"), with_log(some_settings(first, tmp_path / "staging")))
    for chain.key in MONTHS:
        chain.run()
    replica = Store(chain.client, chain.settings.store.model_copy(update={"bucket": second}), author=AUTHOR)
    _copy(chain, replica)
    deployment.tables(audit={"date_column": "at"})
    deployment.store(object_store, first)
    deployment.log(KEY)
    deployment.connection("replica", aws_connection(*object_store.keys("archiver")))
    for name, value in {"FILLED_BY": "strongroom", "BUCKET": second, "ENDPOINT_URL": object_store.endpoint_url}.items():
        monkeypatch.setenv(f"STRONGROOM__REPLICA__{name}", value)
    written = airflow("strongroom", "recovery-kit", "--output", str(tmp_path / "kit"))
    assert written.returncode == 0, written.stderr
    assert rows_of(source, "audit") == []
    return before, tmp_path / "kit", replica


def _copy(chain: Chain, replica: Store) -> None:
    for archive in sorted(archive_ids(chain.store)):
        one = replicate_archive(
            chain.store,
            replica,
            archive,
            filled_by="strongroom",
            owner="a",
            who="a",
            now=NOW,
            claim_ttl=chain.settings.claim_ttl,
        )
        assert one.result == "same"
    replicate_rest(chain.store, replica, filled_by="strongroom", compare_days=90, who="a", now=NOW)


def test_rows_come_back_to_an_empty_machine_as_they_were_archived(
    lost, postgres, object_store, coming_buckets, tmp_path
):
    before, kit, _ = lost
    new_bucket = next(coming_buckets).result()
    with a_database(postgres) as empty, a_database(postgres) as metadata:
        machine = Machine(tmp_path / "home", kit, metadata)
        machine.variables |= {
            # What a person brings: secrets, and where the new bucket is.
            "STRONGROOM__STORE__BUCKET": new_bucket,
            "AIRFLOW_CONN_STRONGROOM_STORE": aws_connection(*object_store.keys("archiver")),
            "AIRFLOW_CONN_STRONGROOM_REPLICA": aws_connection(*object_store.keys("archiver")),
            "AIRFLOW_CONN_STRONGROOM_LOG": Deployment.generic(KEY.secret),
            "AIRFLOW_CONN_STRONGROOM_SOURCE": postgres_connection(empty),
            "AIRFLOW_CONN_STRONGROOM_RESTORE": postgres_connection(empty),
        }
        machine.run("db", "migrate")

        looked = json.loads(machine.run("strongroom", "recover", str(kit), "--from", "replica", "--json"))
        [found] = json.loads(
            machine.run("strongroom", "recover", str(kit), "--from", "replica", "--fill", "--new-owner", "--json")
        )
        machine.run("dags", "reserialize")
        wish = {"table": "public.audit", "target": "public.audit", "create_target": True, "why": "the bucket was lost"}
        machine.run("dags", "test", "restore_archive", "--conf", json.dumps(wish))

        assert rows_of(empty, "audit") == before
    assert [one["archive_id"] for one in looked[0]["restorable"]] == [f"public.audit.{month}.0001" for month in MONTHS]
    assert looked[0]["read_from"] == "replica"
    assert (len(found["restorable"]), found["lost"], found["damaged"], found["filled"]["not_copied"]) == (2, [], [], [])
    settings = with_log(some_settings(new_bucket, tmp_path)).store
    store = Store(object_store.client("archiver"), settings)
    assert [kind for kind in kinds_of(store)[-4:] if kind != "restored"] == [
        "recovered",
        "owner changed",
        "restore begun",
    ]
    assert store.head("index/manifests.jsonl.zst") is not None


class Machine:
    """A machine on which only Strongroom and Airflow are installed.

    Attributes:
        variables: Its environment.
    """

    def __init__(self, home: Path, kit: Path, metadata: str) -> None:
        home.mkdir()
        where = conninfo_to_dict(metadata)
        kept = dict(line.split("=", 1) for line in (kit / "settings.env").read_text().splitlines())
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "STRONGROOM", "AWS_", "PG"))
        }
        self.variables = clean | kept
        self.variables |= {
            "AIRFLOW_HOME": str(home),
            "STRONGROOM_CONFIG": str(kit / "archive.yaml"),
            "STRONGROOM__STAGING": str(home / "staging"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": Fernet.generate_key().decode(),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
                f"postgresql+psycopg2://{where['user']}:{quote(str(where['password']), safe='')}"
                f"@{where['host']}:{where['port']}/{where['dbname']}"
            ),
        }

    def run(self, *arguments: str) -> str:
        """Run `airflow` to its end."""
        started = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        print(f"{' '.join(arguments[:3])}: {time.monotonic() - started:.1f} s")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout
