"""A copy of the database uses the original's store: what is refused, and what cannot be told apart."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.errors import IdentityError
from strongroom_local.servers.postgres import PostgresServer
from tests.support.chain import Chain, some_settings
from tests.support.ledger import examine, opened
from tests.system.faults.matrix import MATRIX
from tests.system.faults.scenario import Scene
from tests.system.faults.steps import ARCHIVE_STEPS, Steps


def test_a_clone_of_the_database_is_refused_by_the_store_of_the_original(scene: Scene):
    """CREATE DATABASE ... TEMPLATE copies every row, but the oid differs."""
    scenario = scene.scenario()
    scenario.prepare("extract_to_staging")
    original = str(conninfo_to_dict(scene.conninfo)["dbname"])
    with psycopg.connect(scene.postgres.conninfo(), autocommit=True) as session:
        names = {"clone": sql.Identifier(f"{original}_clone"), "original": sql.Identifier(original)}
        session.execute(sql.SQL("CREATE DATABASE {clone} TEMPLATE {original}").format(**names))
    clone = replace(scenario.place, conninfo=make_conninfo(scene.conninfo, dbname=f"{original}_clone"))

    with pytest.raises(IdentityError, match="belongs to another database"):
        Steps(clone).run("plan")

    scenario.recover("plan", "retry", ARCHIVE_STEPS)
    scenario.require_all_archived()
    scenario.examine("a clone of the database beside a run", recovered="refused")
    with psycopg.connect(scene.postgres.conninfo(), autocommit=True) as session:
        session.execute(sql.SQL("DROP DATABASE {clone} WITH (FORCE)").format(clone=names["clone"]))


@pytest.mark.exhaustive
def test_a_copy_of_the_servers_files_is_not_told_apart_and_does_no_harm(object_store, bucket, tmp_path):
    """It has the same system identifier, database and oid. It archives and deletes only its own rows, none of the original."""
    server = PostgresServer(tmp_path / "server")
    try:
        server.start()
        ledger = opened(server.conninfo("postgres"))
        chain = Chain(
            ledger.conninfo, object_store.client("archiver"), some_settings(bucket, tmp_path / "a", part_rows=120)
        )
        sealed = chain.seal(chain.plan())
        copy = _copy_of(server, tmp_path / "copy")
        with psycopg.connect(ledger.conninfo, autocommit=True) as session:
            ledger.update(session, 1)
            ledger.delete(session, 2)

        _swap(server, copy)
        of_the_copy = replace(chain, settings=some_settings(bucket, tmp_path / "b", part_rows=120))
        assert of_the_copy.plan().outcome == "resumed"
        deleted = sum(of_the_copy.delete(part).deleted for part in sealed.parts)
        _swap(server, copy)

        assert deleted == 300, "the copy went on with the archive that the original had sealed"
        assert len(ledger.live()) == len(ledger.rows), "the original has all of its rows"
        # They were not deleted here, although the evidence says so. They go into another archive.
        chain.run()
        assert len(ledger.live()) == 20
        tally = examine(ledger, chain)
        MATRIX.note("a copy of the server's files on the store of the original", tally, recovered="new run")
        tally.require_sound()
    finally:
        server.destroy()


def _copy_of(server: PostgresServer, folder: Path) -> Path:
    """Copy the files of the server, which is stopped meanwhile."""
    server.stop()
    subprocess.run(["cp", "-a", str(server._data), str(folder)], check=True)
    server.start()
    return folder


def _swap(server: PostgresServer, other: Path) -> None:
    """Swap the server's files with the others, and let it continue."""
    server.stop()
    aside = other.with_name("aside")
    for source, target in ((server._data, aside), (other, server._data), (aside, other)):
        subprocess.run(["mv", str(source), str(target)], check=True)
    server.start()
