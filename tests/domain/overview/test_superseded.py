"""An archive that is superseded is counted nowhere, raises no alarm, and is named until it is removed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from strongroom.drill.begin import begin_drills
from strongroom.erasure.clock import open_cases
from strongroom.ledger.adopt import missing_from_log
from strongroom.ledger.index import survey_manifests
from strongroom.object_keys.records import case_key
from strongroom.overview.history import whereabouts
from strongroom.overview.reading import keep_facts, read_facts, read_kept_facts
from strongroom.overview.states import State
from strongroom.retention.sweep import sweep_store
from strongroom.settings import DrillSettings, Settings
from strongroom.statistics.figures import make_statistics
from strongroom.statistics.metrics import make_metrics
from strongroom.statistics.records import Uncounted
from tests.support.audited import copy_bucket
from tests.support.damaging import Vandal
from tests.support.erasing import RUN, Person, an_erased_store
from tests.support.logs import KEY
from tests.support.overview import chart_of
from tests.support.tools import verify_evidence

NOW = datetime.now(timezone.utc)
SECOND, THIRD = (f"public.audit.2026-05.000{sequence}" for sequence in (2, 3))


@pytest.fixture(scope="module")
def person(postgres, object_store, tmp_path_factory) -> Iterator[Person]:
    """The third archive supersedes the second, which waits to be removed; the first is gone."""
    with an_erased_store(postgres, object_store, tmp_path_factory.mktemp("superseded"), "superseded") as second:
        yield second


def test_rows_are_counted_once_and_no_partition_looks_unfinished(person):
    store, settings = person.chain.store, person.chain.settings

    facts = read_facts(store, now=NOW)

    assert ([one.archive_id for one in facts.archives], [one.archive_id for one in facts.superseded]) == (
        [THIRD],
        [SECOND],
    )
    [successor] = facts.archives
    assert (successor.supersedes, successor.case_id, successor.emptied) == (SECOND, "DSR-2", True)
    statistics = make_statistics(Settings(tables={settings.table: settings}), facts.archives, now=NOW)
    assert (statistics.total.archives, statistics.total.rows) == (1, 691)
    [cell] = [
        one for one in chart_of(facts, rows=Uncounted(reason="nobody asked"), table=settings).cells if one.archives
    ]
    assert State.LEFT not in cell.states
    assert (cell.rows, cell.archives) == (691, (THIRD,))
    assert whereabouts(facts.archives).parts == (("deleted", 691),)


def test_a_second_reading_reads_neither_of_them_again(person):
    """Also from the facts that were kept."""
    store = person.chain.store
    keep_facts(store, read_facts(store, now=NOW))
    kept = read_kept_facts(store)

    read: list[str] = []
    store.client.meta.events.register(
        "provide-client-params.s3.GetObject", lambda params, **_: read.append(params["Key"])
    )

    again = read_facts(store, now=NOW, earlier=kept)

    assert again.superseded == kept.superseded != ()
    assert read
    assert not [key for key in read if key.startswith("metadata/public")]


def test_the_log_misses_nothing_and_a_sweep_finds_nothing_of_it(person):
    store = person.chain.store
    before = set(store.keys("archives/")) | set(store.keys("evidence/")) | set(store.keys("subjects/"))

    missing = missing_from_log(store)
    later, hour = NOW + timedelta(days=90), timedelta(hours=1)
    sweep_store(store, person.purge_store, run=RUN, now=later, grace=timedelta(days=7), claim_ttl=hour)

    assert not missing, missing
    assert set(store.keys("archives/")) | set(store.keys("evidence/")) | set(store.keys("subjects/")) >= before


def test_metrics_count_open_cases_and_what_waits_to_be_removed(person):
    facts = read_facts(person.chain.store, now=NOW)
    clocks = facts.clocks(NOW)
    statistics = make_statistics(Settings(tables={}), facts.archives, cases=[clocks], now=NOW)

    samples = {
        one.name: one
        for family in make_metrics(statistics, [], {}, [])
        for one in family.samples
        if "store" in one.labels
    }

    assert {name: one.value for name, one in samples.items() if "seconds" not in name} == {
        "strongroom_open_cases": 1,
        "strongroom_overdue_cases": 0,
        "strongroom_superseded_archives": 1,
    }
    until_due = samples["strongroom_seconds_until_case_due"]
    assert timedelta(days=25).total_seconds() < until_due.value < timedelta(days=31).total_seconds()
    assert until_due.labels == {"store": str(person.chain.store)}
    late = facts.clocks(NOW + timedelta(days=40))
    assert (late.open, late.overdue) == (1, 1)


def test_an_end_that_the_log_does_not_have_stops_no_clock(person, object_store):
    """Whoever has the archiver's keys may write one. A case that was forged counts as overdue."""
    store = person.chain.store
    vandal = Vandal(object_store.client("admin"), store, person.chain.settings.store.bucket)
    closed = store.read(case_key("DSR-1", "closed"))[0].replace(b"DSR-1", b"DSR-2")
    received = store.read(case_key("DSR-2", "received"))[0]

    with vandal.undone():
        vandal.write(case_key("DSR-2", "closed"), closed)
        [planted] = open_cases(store)
        vandal.replace(case_key("DSR-2", "received"), received.replace(b'"clerk"', b'"grace"'))
        [forged] = open_cases(store)
        facts = read_facts(store, now=NOW)

    assert (planted.case_id, forged.due_at) == ("DSR-2", None)
    assert planted.due_at is not None
    assert facts.clocks(NOW).overdue == 1


def test_a_drill_leaves_it_out_and_an_auditor_agrees(person, object_store, tmp_path):
    store, bucket = person.chain.store, person.chain.settings.store.bucket

    _, run = begin_drills(store, {"public.audit": DrillSettings(random=9)}, run_id="r", who="ada", now=NOW)

    assert [one.archive_id for one in run.candidates] == [THIRD]
    assert [one.archive_id for one in survey_manifests(store).superseded] == [SECOND]
    versions = copy_bucket(object_store.client("admin"), bucket, tmp_path / "copy")
    verdict = verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier), "--versions", versions)
    assert verdict.false == []
