"""A detach or a drop that is killed at any moment is finished by a repeat."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta

import psycopg
import pytest

from strongroom.archive import detach
from strongroom.archive.report import report_run
from strongroom.errors import SourceError
from strongroom.retention import drop_detached as detached_purge
from strongroom.storage.purge_store import PurgeStore
from tests.support.chain import NOW
from tests.support.database import scalar
from tests.support.partitions import (
    COOLED,
    DEFAULT,
    HELD,
    ROWS,
    TABLE,
    WEEKS,
    Dead,
    die,
    dying_after,
)

CRASHES = {
    "when it is guarded": lambda: ("compare_with_archive", die),
    "when it is compared": lambda: ("detach_concurrently", die),
    "when it is detached": lambda: ("settle_detached", die),
    "when it is moved": lambda: ("settle_detached", dying_after(detach.settle_detached)),
    "before the evidence": lambda: ("DetachEvidence", die),
}


@pytest.mark.parametrize(
    ("crash", "extra"),
    [*((crash, "") for crash in CRASHES.values()), (CRASHES["when it is detached"], DEFAULT)],
    ids=[*CRASHES, "when it is detached plainly"],
)
def test_a_detach_that_is_killed_is_taken_up_by_a_repeat(make_chain, monkeypatch, crash, extra):
    """Each row is in the table or in the detached partition all the time."""
    chain = make_chain(TABLE + extra + ROWS)
    sealed = chain.seal(chain.plan())
    with monkeypatch.context() as killed:
        killed.setattr(detach, "lift_guard", lambda *_: None)
        killed.setattr(detach, *crash())
        with pytest.raises(Dead):
            chain.detach(sealed.parts)
    everywhere = scalar(chain.owner, "SELECT count(*) FROM audit")
    if (name := scalar(chain.owner, f"SELECT to_regclass('{HELD}.audit_2026_05')::text")) is not None:
        everywhere += scalar(chain.owner, f"SELECT count(*) FROM {name}")
    elif not scalar(chain.owner, "SELECT relispartition FROM pg_class WHERE relname = 'audit_2026_05'"):
        everywhere += scalar(chain.owner, "SELECT count(*) FROM audit_2026_05")
    assert everywhere == 800
    assert [one.result for one in chain.drop_detached(now=COOLED) if one.result == "dropped"] == []

    evidence = chain.detach(sealed.parts)

    assert [(one.partition, one.held_as, one.rows) for one in evidence.detached] == [
        ("public.audit_2026_05", f"{HELD}.audit_2026_05", 744)
    ]
    assert sum(chain.delete(part).detached for part in sealed.parts) == 744
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped"]


def test_a_concurrent_detach_whose_session_is_ended_in_its_middle_is_brought_to_its_end(chain):
    sealed = chain.seal(chain.plan())
    ended = []
    with psycopg.connect(chain.owner) as other:
        other.execute("SELECT count(*) FROM audit")

        def detach_until_ended() -> None:
            try:
                chain.detach(sealed.parts)
            except SourceError as error:
                ended.append(error)

        chain.settings = chain.settings.model_copy(update={"lock_timeout_seconds": 60})
        detaching = threading.Thread(target=detach_until_ended)
        detaching.start()
        pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
        while not scalar(chain.owner, pending):
            assert detaching.is_alive()
            time.sleep(0.02)
        stop = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'test audit owner'"
        )
        scalar(chain.owner, stop)
        detaching.join()
        other.commit()

    evidence = chain.detach(sealed.parts)

    assert len(ended) == 1
    assert [one.held_as for one in evidence.detached] == [f"{HELD}.audit_2026_05"]


@pytest.mark.parametrize("moment", ["before the drop", "after the drop"])
def test_a_drop_that_is_killed_is_taken_up_by_the_next_purge(chain, monkeypatch, moment):
    chain.run()
    original = detached_purge.tried
    kill = die if moment == "before the drop" else dying_after(original)
    with monkeypatch.context() as killed:
        killed.setattr(detached_purge, "tried", kill)
        with pytest.raises(Dead):
            chain.drop_detached(now=COOLED)
    assert scalar(chain.owner, f"SELECT count(*) FROM {HELD}.audit_2026_05") == 744

    [dropped] = chain.drop_detached(now=COOLED + timedelta(days=1))

    assert dropped.result == "dropped"


def test_with_staging_on_s3_each_step_and_each_try_may_run_on_another_machine(
    make_chain, object_store, tmp_path, monkeypatch
):
    """Also what is taken up by a repeat, and the drop, which has its scratch space for itself. Nothing is left of it."""
    staging = f"s3://detach/{tmp_path.name}-{os.getpid()}"
    chain = make_chain(WEEKS + ROWS, staging=staging, scratch=str(tmp_path))
    chain.staging_client = object_store.client("stager")
    plan = chain.plan()
    sealed = chain.seal(plan)
    with monkeypatch.context() as killed:
        killed.setattr(detach, "DetachEvidence", die)
        with pytest.raises(Dead):
            chain.detach(sealed.parts)

    evidence = chain.detach(sealed.parts)

    assert [(one.partition, one.rows) for one in evidence.detached] == [("public.w19", 168), ("public.w20", 168)]
    deleted = [chain.delete(part) for part in sealed.parts]
    assert (sum(one.detached for one in deleted), sum(one.deleted for one in deleted)) == (336, 408)
    with chain.staging(plan.archive_id) as at_the_end:
        report_run(chain.store, at_the_end, plan, sealed.parts, deleted, now=NOW)
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped", "dropped"]
    staged = PurgeStore(chain.staging_client, chain.settings.staging_store).versions("staging/")
    on_machines = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert (list(staged), on_machines) == ([], [])
