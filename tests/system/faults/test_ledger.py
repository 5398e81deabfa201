"""The ledger itself finds what it must find."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from strongroom_local.servers.ports import LOOPBACK
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.database_proxy import DatabaseProxy
from tests.support.ledger import Ledger, examine, opened, read_archives
from tests.support.proxies import HoldingProxy, Moment, proxied_client


@pytest.fixture
def ledger(source) -> Ledger:
    return opened(source)


@pytest.fixture
def chain(ledger, object_store, bucket, tmp_path) -> Chain:
    settings = some_settings(bucket, tmp_path, part_rows=120, delete_batch_rows=40)
    return Chain(ledger.conninfo, object_store.client("archiver"), settings)


def test_a_run_under_a_busy_application_balances(ledger, chain):
    """Rows are changed, moved and deleted before and after they are archived."""
    with psycopg.connect(ledger.conninfo, autocommit=True) as session:
        ledger.update(session, 1)
        ledger.delete(session, 2)
        sealed = chain.seal(chain.plan())
        ledger.update(session, 3)
        ledger.delete(session, 4)
        ledger.insert(session, [1000], ["2026-05-05T00:00:00+00:00"])
    for part in sealed.parts:
        chain.delete(part)

    tally = examine(ledger, chain)

    tally.require_sound()
    assert (tally.at_risk, tally.kept) == (300, 20 + 2)


FRAUDS = {
    "lost": "DELETE FROM audit WHERE id = 320",
    "altered": "UPDATE audit SET amount = amount + 0.01 WHERE id = 320",
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("found", "statement"), FRAUDS.items(), ids=FRAUDS.keys())
def test_what_goes_wrong_behind_its_back_is_found(ledger, chain, found, statement):
    chain.run()
    execute(ledger.conninfo, statement)

    tally = examine(ledger, chain)

    assert [row.id for row in getattr(tally, found)] == [320]


def test_a_row_that_was_deleted_before_the_archive_was_read_may_not_come_back(ledger, chain):
    with psycopg.connect(ledger.conninfo, autocommit=True) as session:
        ended = ledger.rows[2]
        ledger.delete(session, 2)
        session.execute(
            "INSERT INTO audit VALUES (%s, %s, %s, %s, %s)",
            (ended.id, ended.at, ended.stamp, ended.who, ended.amount),
        )

    in_the_table = ledger.compare([])
    chain.run()
    in_an_archive = ledger.compare(read_archives(chain.client, chain.settings))

    assert (in_the_table.resurrected, in_an_archive.resurrected) == ([ended], [ended])


@pytest.mark.exhaustive
def test_proxies_that_let_everything_pass_change_nothing(ledger, chain, object_store, postgres):
    """And they see the statements and requests of a run."""
    seen: list[Moment] = []

    def watch(moment: Moment) -> bool:
        seen.append(moment)
        return True

    with (
        HoldingProxy(watch) as store_proxy,
        DatabaseProxy((postgres.host, postgres.port), watch) as database_proxy,
    ):
        store_proxy.forward_to(LOOPBACK, object_store.port)
        conninfo = database_proxy.conninfo(ledger.conninfo)
        report = replace(chain, conninfo=conninfo, client=proxied_client(object_store, store_proxy)).run()

    examine(ledger, chain).require_sound()
    assert report.deleted_rows == 300
    assert {"COMMIT", "COPY ends"} <= {moment.what for moment in seen if moment.boundary == "database"}
    assert any(moment.what.startswith("PUT") and "/metadata/" in moment.what for moment in seen)
