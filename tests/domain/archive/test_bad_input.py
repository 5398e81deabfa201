"""Whatever goes wrong around a run ends in one clear error, nothing is lost, and the run succeeds once it is fixed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import boto3
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from strongroom.archive.checksum import checksum_part
from strongroom.archive.compress import compress_part
from strongroom.archive.extract_to_staging import extract_part
from strongroom.archive.report import report_run
from strongroom.archive.upload import upload_part
from strongroom.calendar import Term
from strongroom.formats.codecs import choose_codec
from strongroom.settings import StoreSettings
from strongroom.storage.s3 import make_client
from strongroom.storage.store import Store
from strongroom_local.servers.ports import choose_ports
from strongroom_local.servers.processes import wait_until
from tests.support.chain import Chain
from tests.support.hourly import (
    DUE,
    ROWS,
    SECRET,
    execute,
    hourly_chain,
    left_ids,
    require_nothing_lost,
    require_success,
    told,
)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    return hourly_chain(source, object_store.client("archiver"), bucket, tmp_path)


def test_a_wrong_password(chain):
    right = chain.conninfo
    chain.conninfo = make_conninfo(right, password=SECRET)

    text = told(chain.run)

    assert text.startswith("SourceAccessError: the source database postgres@127.0.0.1:")
    assert "password authentication failed" in text
    assert "HINT: No row was deleted because of it. Check the source connection" in text
    chain.conninfo = right
    require_nothing_lost(chain)
    require_success(chain)


def test_a_term_that_is_almost_over_counts_when_it_is_said_twice(chain):
    """By a slip, or for rows that are older than anybody thought: the next purge would destroy what left the table."""
    right = chain.settings
    short = Term.parse("P180D")
    chain.settings = right.model_copy(update={"cold_retention": short})

    text = told(chain.run)

    assert text.startswith("ConfigurationError: an archive of 2026-05 would be destroyed on 2026-11-28")
    assert "HINT: Nothing was read and no row was deleted." in text
    require_nothing_lost(chain)
    chain.settings = right.model_copy(update={"cold_retention": short, "confirmed": short})
    require_success(chain)


def test_a_database_that_does_not_exist(chain):
    right = chain.conninfo
    chain.conninfo = make_conninfo(right, dbname="nowhere")

    text = told(chain.run)

    assert text.startswith("SourceAccessError: ")
    assert 'database "nowhere" does not exist' in text
    chain.conninfo = right
    require_success(chain)


def test_an_unreachable_database(chain):
    right = chain.conninfo
    [port] = choose_ports(1)
    chain.conninfo = make_conninfo(right, port=port, password=SECRET)

    text = told(chain.run)

    assert text.startswith("SourceError: the source database postgres@127.0.0.1:")
    assert "refused" in text
    assert "HINT: All deleted rows are in a verified archive." in text
    chain.conninfo = right
    require_success(chain)


def test_a_missing_table(chain):
    execute(chain.conninfo, "ALTER TABLE audit RENAME TO elsewhere")

    text = told(chain.run)

    assert text.startswith("UnarchivableError: there is no table public.audit in the source database")
    assert "HINT: Nothing was read and no row was deleted. Correct the table's name in archive.yaml" in text
    execute(chain.conninfo, "ALTER TABLE elsewhere RENAME TO audit")
    require_success(chain)


def test_a_role_that_may_not_delete(chain):
    """It is told before anything is read."""
    execute(chain.conninfo, f"DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD '{SECRET}'")
    execute(chain.conninfo, "GRANT SELECT ON audit TO reader")
    superuser = chain.conninfo
    chain.conninfo = make_conninfo(superuser, user="reader", password=SECRET)

    text = told(chain.run)

    assert "the role reader lacks rights for public.audit: found no DELETE" in text
    execute(superuser, "GRANT DELETE ON audit TO reader")
    chain.conninfo = make_conninfo(superuser, user="reader", password=SECRET)
    require_success(chain)
    execute(superuser, "DROP OWNED BY reader; DROP ROLE reader")


def test_a_session_that_the_server_ends_in_mid_delete(chain):
    """Batches that were committed stay deleted; the next try continues after them."""
    sealed = chain.seal(chain.plan())

    with psycopg.connect(chain.conninfo) as somebody, ThreadPoolExecutor() as pool:
        somebody.execute("SELECT FROM audit WHERE id = 350 FOR UPDATE")
        attempt = pool.submit(told, lambda: chain.delete(sealed.parts[0]))
        waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'test audit'"
        assert wait_until(lambda: bool(execute(chain.conninfo, waiting)), 20)
        text = attempt.result()

    assert text.startswith("SourceError: the source database")
    assert len(left_ids(chain) & DUE) == 744 - 300
    require_nothing_lost(chain)
    deleted = chain.delete(sealed.parts[0])
    assert (deleted.deleted, deleted.gone, left_ids(chain)) == (744, 0, ROWS - DUE)


def store_with(chain: Chain, object_store, **changes) -> Store:
    """The chain's store, reached with other keys, at another address or in another bucket."""
    access_key, secret_key = object_store.keys("archiver")
    settings = StoreSettings(
        bucket=changes.get("bucket", chain.settings.store.bucket),
        endpoint_url=changes.get("endpoint_url", object_store.endpoint_url),
        max_attempts=1,
    )
    session = boto3.Session(changes.get("access_key", access_key), changes.get("secret_key", secret_key))
    return Store(make_client(settings, session=session), settings)


def nowhere() -> str:
    [port] = choose_ports(1)
    return f"http://127.0.0.1:{port}"


@dataclass(frozen=True)
class BadStore:
    changes: dict[str, str]
    kind: str
    says: str


BAD_STORES = {
    "wrong secret key": BadStore({"secret_key": SECRET}, "StoreAccessError", "the store refused to look at"),
    "unknown access key": BadStore({"access_key": "nobody"}, "StoreAccessError", "the store refused to look at"),
    "missing bucket": BadStore({"bucket": "no-such-bucket"}, "StoreAccessError", "no-such-bucket"),
}


@pytest.mark.parametrize("wrong", BAD_STORES)
def test_a_store_that_lets_nobody_in(chain, object_store, wrong):
    bad, right = BAD_STORES[wrong], chain.store
    chain.store = store_with(chain, object_store, **bad.changes)

    text = told(chain.run)

    assert text.startswith(f"{bad.kind}: ")
    assert bad.says in text
    assert "no row is deleted before its archive is proved" in text or "no row was deleted" in text
    chain.store = right
    require_nothing_lost(chain)
    require_success(chain)


class BreakingOff(Store):
    """The store, which nobody can reach any more from the moment that one key is to be written."""

    def __init__(self, store: Store, key: str) -> None:
        self.__dict__ = dict(store.__dict__)
        self._key = key

    def put_bytes(self, key, body, **options):
        if key == self._key:
            self.client = make_client(self.settings, session=boto3.Session("id", "key"), endpoint_url=nowhere())
        return super().put_bytes(key, body, **options)


def test_a_store_that_cannot_be_reached_for_a_while_at_every_step(chain, object_store):
    """Each step is tried while nobody answers, and again; nothing has to be done twice."""
    right, broken = chain.store, store_with(chain, object_store, endpoint_url=nowhere())

    def insist(attempt):
        chain.store = broken
        text = told(attempt)
        assert text.startswith("StoreError: the store failed to"), text
        assert "HINT: Nothing was overwritten, and no row is deleted before its archive is proved. See whether" in text
        chain.store = right
        require_nothing_lost(chain)
        return attempt()

    plan = insist(chain.plan)
    staging = chain.staging(plan.archive_id)
    with chain.source() as connection:
        extracted = extract_part(connection, staging, chain.settings, plan.parts[0], now=chain.now)
    summed = checksum_part(staging, compress_part(staging, extracted, choose_codec(chain.settings.compression)))
    insist(lambda: upload_part(staging, chain.store, summed))
    insist(lambda: chain.verified(plan, plan.parts[0]))  # the steps before verify are found finished
    sealed = insist(lambda: chain.seal(plan))
    deleted = insist(lambda: chain.delete(sealed.parts[0]))
    report = insist(lambda: report_run(chain.store, staging, plan, sealed.parts, [deleted], now=chain.now))

    assert (report.outcome, report.deleted_rows, report.gone_rows) == ("archived", 744, 0)
    assert left_ids(chain) == ROWS - DUE


def test_a_store_that_fails_when_the_rows_are_deleted_but_not_yet_noted(chain, object_store):
    """The evidence is written by the next try, from the progress in staging."""
    sealed = chain.seal(chain.plan())
    evidence_key = sealed.parts[0].archive.delete_evidence_key(0)
    right = chain.store
    chain.store = BreakingOff(right, evidence_key)

    text = told(lambda: chain.delete(sealed.parts[0]))

    assert "no row is deleted before its archive is proved" in text
    assert left_ids(chain) == ROWS - DUE
    chain.store = right
    require_nothing_lost(chain)
    deleted = chain.delete(sealed.parts[0])
    assert (deleted.deleted, deleted.gone) == (744, 0)
    assert right.read(evidence_key) is not None
