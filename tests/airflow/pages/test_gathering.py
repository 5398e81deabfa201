"""What the pages know: read in the background, kept when a source fails, and never waited for longer than a moment."""

from __future__ import annotations

import time
from threading import Event

import psycopg
import pytest

from strongroom_airflow.connections import store_key
from tests.support.chain import some_settings
from tests.support.database_proxy import DatabaseProxy
from tests.support.proxies import HoldingProxy
from tests.support.sealing import seal_month

AUDIT = "public.audit"


class Address:
    """An S3 server under the address of a proxy, for the deployment."""

    def __init__(self, store, proxy) -> None:
        self.endpoint_url = proxy.endpoint_url
        self.keys = store.keys


def the_store(facts):
    [known] = facts.stores.values()
    return known


def test_facts_are_what_store_and_database_have(gathering, archived):
    facts = gathering.facts(seconds=120, fresh=True)

    assert [one.archive_id for one in facts.archives_of(AUDIT, "2026-05")] == ["public.audit.2026-05.0001"]
    waiting = {one.partition_key: one.rows for one in facts.tables[AUDIT].value.counts.waiting}
    assert waiting == {"2026-06": 13}
    assert facts.problems([AUDIT]) == []
    assert "not yet" not in facts.age


def test_a_store_that_fails_later_leaves_what_was_known_with_the_reason(gathering, chain, deployment, object_store):
    """Its age grows, and the page says why it is not newer."""
    with HoldingProxy() as proxy:
        proxy.forward_to("127.0.0.1", object_store.port)
        deployment.store(Address(object_store, proxy), chain.settings.store.bucket)
        chain.run()
        before = gathering.facts(seconds=120, fresh=True)
        proxy.target = None  # each connection is reset from here on

        after = gathering.facts(seconds=300, fresh=True)

    assert the_store(after).value.archives == the_store(before).value.archives
    assert the_store(after).read_at == the_store(before).read_at
    [problem] = after.problems([AUDIT])
    assert "HINT:" in problem or "did not answer" in problem
    assert after.tables[AUDIT].problem is None


def test_a_database_that_fails_costs_the_rows_alone_and_comes_back(gathering, chain, deployment, postgres, source):
    """Nothing of the connection is told but that it failed."""
    alive = Event()
    alive.set()
    with DatabaseProxy((postgres.host, postgres.port), lambda _: alive.is_set()) as proxy:
        deployment.database(proxy.conninfo(source), "source")
        gathering.facts(seconds=120, fresh=True)
        alive.clear()

        broken = gathering.facts(seconds=120, fresh=True)

        assert broken.tables[AUDIT].value is not None
        assert broken.tables[AUDIT].problem
        assert postgres.password not in broken.tables[AUDIT].problem
        assert "a page can be read again" in broken.tables[AUDIT].problem
        assert the_store(broken).problem is None
        alive.set()
        assert gathering.facts(seconds=120, fresh=True).tables[AUDIT].problem is None


def test_a_question_that_is_not_answered_in_time_is_a_reason_with_a_hint(gathering):
    late = Event()

    answer, problem = gathering.ask(lambda: late.wait(60), seconds=0.2)

    late.set()
    assert answer is None
    assert "did not answer within 0 s\nHINT: Nothing was changed." in problem


def test_an_error_of_another_library_is_told_by_its_name_alone(gathering):
    """Its text may contain a password."""

    def fail() -> None:
        raise psycopg.OperationalError("password=hunter2")  # pragma: allowlist secret

    assert gathering.ask(fail) == (None, "the source database or store did not answer (OperationalError)")


def test_pages_that_come_together_cause_one_reading(gathering, chain, monkeypatch):
    """A store is asked again only after its time, however many pages are opened."""
    from strongroom_airflow.pages import gathering as module

    asked, open_store = [], module.connect_store
    monkeypatch.setattr(module, "connect_store", lambda table: asked.append(table) or open_store(table))

    for _ in range(5):
        gathering.facts(seconds=120)

    assert len(asked) == 1


def test_reading_again_while_a_reading_is_under_way_shows_what_came_since(gathering, chain, monkeypatch):
    """The reading under way may have passed by what is asked for, so another begins right after it."""
    from strongroom_airflow.pages import gathering as module

    begun, may_end, read_facts = Event(), Event(), module.read_facts

    def read_slowly(*words, **given):
        found = read_facts(*words, **given)
        begun.set()
        assert may_end.wait(120)
        return found

    monkeypatch.setattr(module, "read_facts", read_slowly)
    gathering.facts(seconds=0)
    assert begun.wait(120)
    chain.run()

    gathering.facts(seconds=0, fresh=True)
    may_end.set()
    facts = gathering.facts(seconds=120)

    assert [one.archive_id for one in facts.archives_of(AUDIT, "2026-05")] == ["public.audit.2026-05.0001"]


def test_waiting_ends_when_its_time_is_over(gathering, chain, monkeypatch):
    from strongroom_airflow.pages import gathering as module

    answers = Event()
    monkeypatch.setattr(module, "connect_store", lambda _: answers.wait(120))
    started = time.monotonic()

    facts = gathering.facts(seconds=0.3)

    assert time.monotonic() - started < 60
    assert the_store(facts).value is None
    assert facts.reading([AUDIT])
    assert not facts.knows_archives_of(AUDIT)
    answers.set()


def test_tables_and_stores_that_are_not_configured_any_more_are_forgotten(gathering, chain, deployment):
    gathering.facts(seconds=120, fresh=True)
    deployment.tables(payroll={"date_column": "at", "store": {"bucket": "another"}})

    facts = gathering.facts(seconds=120)

    assert list(facts.tables) == ["public.payroll"]
    assert [key[1] for key in facts.stores] == ["another"]


@pytest.mark.parametrize("name", ["audit", "forgotten"])
def test_the_store_of_a_table_is_found_also_when_the_table_is_gone_from_the_settings(
    gathering, chain, bucket, tmp_path, name
):
    seal_month(chain.store, some_settings(bucket, tmp_path, name), "2026-03")

    facts = gathering.facts(seconds=120, fresh=True)

    assert store_key(facts.store_table(f"public.{name}"))[1] == bucket
