"""Batches are copied where that is enough, and a load that stopped continues after its last batch."""

from __future__ import annotations

import time

import psycopg
import pytest

from strongroom.errors import SourceError
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.restore import load as restore_part_module
from strongroom.restore.progress import RestoreProgress
from tests.support.database import ask, digest, execute
from tests.support.restoring import load, plan, restore, staging_of
from tests.support.statements import Watched


def test_a_restore_that_was_killed_goes_on_behind_its_last_batch(archived, monkeypatch):
    """The server ends the session in the middle of a part; the next try loads the rest and counts every row once."""
    monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 50)
    planned = plan(archived)
    calls = iter(range(100))

    def end_at_the_fourth(connection):
        if next(calls) == 3:
            end_session(archived.conninfo, connection.info.backend_pid)

    with pytest.raises(SourceError):
        load(archived, planned, on_batch=end_at_the_fourth)
    assert digest(archived.conninfo)[0] == 56 + 150

    parts = load(archived, planned)

    assert [(part.result, part.inserted, part.unchanged) for part in parts] == [
        ("restored", part.rows, 0) for part in parts
    ]
    assert digest(archived.conninfo)[0] == 800


def end_session(conninfo, pid):
    """End a session on the server's side, and wait until it is gone."""
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            time.sleep(0.01)


def test_looking_at_a_batch_scans_nothing_for_each_of_its_rows(archived):
    """Otherwise twice as many rows a batch would take four times as long, and most of a restore's time."""
    watched = Watched()
    restore(archived)
    execute(archived.conninfo, "DELETE FROM audit WHERE id % 2 = 0")

    report = restore(archived, "restore-2", on_session=watched)

    def scans(node):
        yield from [(node["Relation Name"], node["Node Type"])] if "Relation Name" in node else []
        for child in node.get("Plans", ()):
            yield from scans(child)

    assert (report.inserted, report.unchanged, report.different) == (372, 372, 0)
    scanned = {scan for query, plan in watched.plans if "strongroom_rows" in query for scan in scans(plan)}
    assert {relation for relation, _ in scanned} == {"strongroom_rows", "strongroom_added", "audit"}
    assert {relation for relation, kind in scanned if "Index" not in kind} == {"strongroom_rows"}


def test_rows_that_are_not_there_are_copied_straight_into_the_table(archived):
    """Rows that must be compared first take several times as long."""
    watched = Watched()

    report = restore(archived, on_session=watched)

    assert (report.inserted, report.unchanged, report.different) == (744, 0, 0)
    assert digest(archived.conninfo)[0] == 800
    assert sum(statement.startswith('COPY "public"."audit"') for statement in watched.statements) == 3
    assert not rebuilt(watched)


def rebuilt(watched):
    """The statements that gave the server archived lines to rebuild."""
    return [one for one in watched.statements if one.startswith('COPY "pg_temp"."strongroom_rows"')]


def test_one_row_that_is_there_in_another_form_sends_the_rest_of_the_part_the_long_way(archived, monkeypatch):
    monkeypatch.setattr(restore_part_module, "BATCH_ROWS", 50)
    monkeypatch.setattr(restore_part_module, "COMPARED_ROWS", 20)
    execute(
        archived.conninfo, "INSERT INTO audit (id, at, who) OVERRIDING SYSTEM VALUE VALUES (121, '2026-05-04', 'new')"
    )

    report = restore(archived)

    assert (report.inserted, report.unchanged, report.different) == (743, 0, 1)


def test_progress_of_another_database_is_not_gone_on_with(archived):
    """Staging may have outlived the database: it was set back, or made anew."""
    planned = plan(archived)
    for part in planned.parts:
        manifest = require_manifest(archived.store, ArchiveId.parse(part.archive_id))
        sealed = manifest.verified_part(part.number)
        progress = RestoreProgress(**sealed.model_dump(), life="another", done_rows=sealed.rows, inserted=sealed.rows)
        staging_of(archived, planned, part).save(progress)

    restored = load(archived, planned)

    assert sum(part.inserted for part in restored) == 744
    assert ask(archived.conninfo, "SELECT count(*) FROM audit") == [(800,)]
