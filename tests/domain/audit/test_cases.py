"""Requests of persons in the report of a period: what became of each, and how the laws' requirements stand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from strongroom.audit.keep import make_files
from strongroom.audit.report import make_report
from strongroom.calendar import Window
from strongroom.object_keys.records import case_key
from tests.support.chain import Chain
from tests.support.damaging import Vandal
from tests.support.database import execute
from tests.support.erasing import ADA, CALLS, CARL, Person, an_erased_store, person_settings

NOW = datetime.now(timezone.utc)
YEAR = Window(NOW - timedelta(days=365), NOW + timedelta(days=365))


@pytest.fixture(scope="module")
def person(postgres, object_store, tmp_path_factory) -> Iterator[Person]:
    """One case has ended, and a second one waits through its cooling-off."""
    with an_erased_store(postgres, object_store, tmp_path_factory.mktemp("cases"), "cases") as second:
        yield second


def files_of(person: Person, *, now: datetime = NOW, window: Window = YEAR):
    chain = person.chain
    return make_files(make_report([(chain.store, [chain.settings])], window, now=now + timedelta(minutes=10)))


def test_a_report_tells_what_became_of_each_request(person):
    files = files_of(person)

    [store] = files.report.stores
    [table] = store.tables
    ended, waiting = store.cases
    assert (ended.case_id, ended.outcome, ended.clock, ended.recipients) == (
        "DSR-1",
        "erased",
        "in time",
        ("The billing partner",),
    )
    assert (ended.superseded, ended.destroyed) == (("public.audit.2026-05.0001",), ("public.audit.2026-05.0001",))
    assert (waiting.ended_at, waiting.clock, waiting.destroyed) == (None, "running", ())
    assert table.rows == {"archived": 700, "deleted": 700, "erased": 1, "superseded": 9}
    found = {one.control: one for one in files.findings}
    assert all(found[one].satisfied for one in ("gdpr-12-3", "gdpr-15", "gdpr-17", "gdpr-19", "ndpa-34"))
    assert found["gdpr-17"].why == "requests: 1 erased, 1 still open"
    assert "DSR-1: The billing partner" in found["gdpr-19"].why
    assert "1 of them for persons" in found["iso-15489-9-9"].why
    assert found["gdpr-17"].entries
    page = files.page.decode()
    assert "Requests of persons" in page
    assert not [value for value in (ADA, CARL) if value in page + files.oscal.decode()]


def test_a_request_that_is_not_answered_in_time_is_named(person):
    late = files_of(person, now=NOW + timedelta(days=40))

    found = {one.control: one for one in late.findings}
    assert not any(found[one].satisfied for one in ("gdpr-12-3", "gdpr-17", "ndpa-34"))
    assert found["gdpr-17"].why == "DSR-2 is overdue"
    assert "DSR-2 was due" in found["gdpr-12-3"].why


def test_a_period_after_the_end_of_a_case_does_not_have_it(person):
    later = Window(NOW + timedelta(days=1), NOW + timedelta(days=365))

    files = files_of(person, window=later)

    assert [case.case_id for case in files.report.stores[0].cases] == ["DSR-2"]


def test_a_record_that_is_not_the_logs_proves_nothing(person, object_store):
    store, bucket = person.chain.store, person.chain.settings.store.bucket
    key = case_key("DSR-2", "received")
    body = store.read(key)[0]
    vandal = Vandal(object_store.client("admin"), store, bucket)
    with vandal.undone():
        vandal.replace(key, body.replace(b'"clerk"', b'"grace"'))
        found = {one.control: one for one in files_of(person).findings}

    assert not found["gdpr-12-3"].satisfied
    assert f"{key} is not what the log has" in found["gdpr-12-3"].why


def test_a_refusal_with_its_reason_satisfies(source, object_store, bucket, tmp_path):
    """A law keeps the rows, and the person was told in time."""
    execute(source, CALLS)
    settings = person_settings(bucket, tmp_path, subjects={"obligation": True})
    chain = Chain(source, object_store.client("archiver"), settings, now=NOW)
    chain.run()
    person = Person(chain, object_store.client("purger"), now=NOW)
    person.open(ADA)
    person.find()
    person.answer()
    person.erase()
    person.close(now=NOW)

    files = files_of(person)

    found = {one.control: one for one in files.findings}
    [case] = files.report.stores[0].cases
    assert (case.outcome, case.erased_rows) == ("refused", 0)
    assert found["gdpr-17"].satisfied
    assert "refused: DSR-1 (public.audit.2026-05.0001: a law obliges to keep them" in found["gdpr-17"].why
