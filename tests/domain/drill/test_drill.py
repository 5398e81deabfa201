"""An archive is really restored, compared and dropped again, under a role that can do nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from strongroom.drill import drill as module
from strongroom.drill.digests import RowDigests
from strongroom.errors import RestoreError, SourceError
from strongroom.ledger.entries import of_archive
from strongroom.ledger.journal import record_with_proof
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.reports import drill_key, parse_drill_key
from strongroom.records import Column
from strongroom.storage.store import Store
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import a_database, ask, execute
from tests.support.drilling import SCRATCH, drill, drill_role, drilling, records, scratch_tables
from tests.support.every_type import DATE, SCHEMA, TABLE
from tests.support.frozen import Frozen
from tests.support.logs import entries_of, with_log
from tests.support.lossless import FORMATS, Bench, every_type

MONTHS = ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05")
GONE, PLANTED, PURGED, TORN, MAY = (ArchiveId("public", "audit", month, 1) for month in MONTHS)
"""Archives of hourly rows in three parts each. All but May's are for one test each, which damages it."""

AUDIT = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);
INSERT INTO audit (at, who, cost)
SELECT '2026-01-01'::timestamptz + n * interval '1 hour', 'agent ' || n || E' \\\\ "x" \t', n / 7.0 FROM generate_series(1, 4000) AS n;
"""


@pytest.fixture(scope="module")
def chain(shared_source, object_store, shared_bucket, tmp_path_factory) -> Chain:
    """The months in a store with a log. Their rows stay in the table."""
    execute(shared_source, AUDIT)
    settings = with_log(some_settings(shared_bucket, tmp_path_factory.mktemp("staging"), part_rows=300))
    chain = Chain(shared_source, object_store.client("archiver"), settings)
    for chain.key in MONTHS:
        chain.seal(chain.plan())
    return chain


@pytest.fixture(scope="module")
def role(shared_source) -> Iterator[str]:
    with drill_role(shared_source) as conninfo:
        yield conninfo


_hours = itertools.count(1)


@pytest.fixture
def now() -> datetime:
    """An instant of one test's own: it names the record."""
    return NOW + timedelta(hours=next(_hours))


def remove(chain: Chain, object_store, key: str) -> None:
    """Remove all versions of an object, as only an administrator can."""
    for version in list(chain.store.versions(key)):
        object_store.client("admin").delete_object(
            Bucket=chain.settings.store.bucket, Key=version.key, VersionId=version.version_id
        )


def test_every_row_comes_back_and_nothing_of_it_stays(chain, role, now):
    before = ask(chain.conninfo, "SELECT count(*) FROM audit")

    found = drill(chain, role, MAY, now=now)

    assert (found.result, found.reason, found.rows, len(found.parts)) == ("sound", "", 744, 3)
    assert all(part.equal for part in found.parts)
    assert 0 < found.first_row_seconds <= found.last_row_seconds
    assert found.rows_per_second > 0
    assert records(chain, now) == {drill_key(MAY, now, "sound"): found}
    assert scratch_tables(chain.conninfo) == []
    staged = Path(chain.settings.staging, "restores").rglob("*")
    assert [path for path in staged if path.is_file()] == []
    assert ask(chain.conninfo, "SELECT count(*) FROM audit") == before


def test_the_log_has_the_record_of_the_drill(chain, role, now):
    drill(chain, role, MAY, now=now)

    last = entries_of(chain.store)[-1]
    assert (last.act.kind, last.act.archive_id, last.act.facts) == (
        "drilled",
        str(MAY),
        {"result": "sound", "rows": 744},
    )
    key = drill_key(MAY, now, "sound")
    assert last.vouches_for(key, hashlib.sha256(chain.store.read(key)[0]).hexdigest())


def test_the_digest_is_that_of_the_sorted_digests_of_the_rows():
    """Which anybody recomputes from the text of a table."""
    texts = [b"2\tb", b"1\ta", b"1\ta"]
    digests = RowDigests()
    for text in texts:
        digests.add([text])

    expected = hashlib.sha256(b"".join(sorted(hashlib.sha256(text).digest() for text in texts))).hexdigest()
    assert (digests.rows, digests.sha256()) == (3, expected)


def test_the_recorded_digest_is_that_of_the_rows_that_were_archived(chain, role, now):
    """Made anew here from the rows that are still in the table, with nothing but COPY and SHA-256."""
    found = drill(chain, role, MAY, now=now)

    for part, sealed in zip(found.parts, require_manifest(chain.store, MAY).parts, strict=True):
        query = sql.SQL("COPY (SELECT * FROM public.audit WHERE at >= {} AND at < {}) TO STDOUT")
        with (
            chain.source() as connection,
            connection.cursor() as cursor,
            cursor.copy(query.format(sealed.start_at, sealed.end_at)) as copy,
        ):
            rows = b"".join(bytes(block) for block in copy).splitlines()
        digests = sorted(hashlib.sha256(row).digest() for row in rows)
        assert part.rows == len(rows) > 200
        assert part.archived_sha256 == part.restored_sha256 == hashlib.sha256(b"".join(digests)).hexdigest()


def test_the_digests_of_many_rows_take_little_more_than_32_bytes_each():
    digests, rows = RowDigests(), 50_000
    tracemalloc.start()
    try:
        digests.add(b"%d" % number for number in range(rows))
        digests.sha256()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 32 < peak / rows < 40


@pytest.mark.parametrize("format", FORMATS)
def test_each_value_of_every_type_comes_back(postgres, object_store, bucket, tmp_path, format):
    with a_database(postgres) as source, drill_role(source) as role:
        execute(source, every_type(source))
        settings = some_settings(bucket, tmp_path, f"{SCHEMA}.{TABLE}", date_column=DATE, format=format)
        bench = Bench(Chain(source, object_store.client("archiver"), settings))
        longest = max(map(len, bench.literals.values()))
        bench.insert(
            [{name: some[number % len(some)] for name, some in bench.literals.items()} for number in range(longest)]
            + [dict.fromkeys(bench.columns)]
        )
        sealed = bench.chain.seal(bench.chain.plan())

        found = drill(bench.chain, role, ArchiveId.parse(sealed.archive_id))

        assert (found.result, found.reason) == ("sound", "")
        assert found.rows == longest + 1


@pytest.mark.parametrize(
    "forging",
    [
        "DELETE FROM {0} WHERE who = (SELECT min(who) FROM {0})",
        "UPDATE {0} SET who = 'forged' WHERE who = (SELECT min(who) FROM {0})",
    ],
)
def test_a_row_that_is_another_once_it_was_restored_is_found(chain, role, monkeypatch, now, forging):
    """Somebody changes it in the table, after the restore has compared it."""
    pinned = module.pin

    def forge_and_pin(connection):
        for name in scratch_tables(chain.conninfo):
            execute(chain.conninfo, forging.format(f"{SCRATCH}.{name}"))
        pinned(connection)

    monkeypatch.setattr(module, "pin", forge_and_pin)

    found = drill(chain, role, MAY, now=now)

    assert (found.result, [part.equal for part in found.parts]) == ("failed", [False, False, False])
    assert found.reason.startswith("part 0: the table held other rows than the archive: expected 248 with digest ")
    assert list(records(chain, now)) == [drill_key(MAY, now, "failed")]
    assert scratch_tables(chain.conninfo) == []


def test_a_row_that_the_database_changes_on_its_way_is_found(chain, role, now):
    execute(
        chain.conninfo,
        """
        CREATE FUNCTION public.forge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.who := 'forged'; RETURN NEW; END $$;
        CREATE FUNCTION public.spoil() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE one record; BEGIN
            FOR one IN SELECT object_identity FROM pg_event_trigger_ddl_commands()
                       WHERE command_tag = 'CREATE TABLE' AND object_identity LIKE 'strongroom_drill.%' LOOP
                EXECUTE 'CREATE TRIGGER f BEFORE INSERT ON ' || one.object_identity || ' FOR EACH ROW EXECUTE FUNCTION public.forge()';
            END LOOP;
        END $$;
        CREATE EVENT TRIGGER spoiler ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.spoil();
        """,
    )

    found = drill(chain, role, MAY, now=now)

    execute(chain.conninfo, "DROP EVENT TRIGGER spoiler")
    assert found.result == "failed"
    assert "rows are not what was archived once they are in strongroom_drill.drill_" in found.reason
    assert scratch_tables(chain.conninfo) == []


def test_a_part_that_is_missing_fails_the_archive_and_the_others_are_restored(chain, role, object_store, now):
    remove(chain, object_store, TORN.part_key(1, "zstd"))

    found = drill(chain, role, TORN, now=now)

    assert (found.result, [part.number for part in found.parts]) == ("failed", [0, 2])
    assert found.reason.startswith("part 1: ")
    assert TORN.part_key(1, "zstd") in found.reason


def test_an_archive_whose_manifest_is_gone_fails(chain, role, object_store, now):
    remove(chain, object_store, GONE.manifest_key)

    found = drill(chain, role, GONE, now=now)

    assert (found.result, found.parts) == ("failed", ())
    assert f"the manifest of {GONE} is gone" in found.reason


def test_an_archive_whose_purge_began_since_it_was_chosen_is_skipped(chain, role, object_store, now):
    intended = of_archive(PURGED, "purge intended")
    record_with_proof(chain.store, PURGED.purge_intent_key, b"{}", intended)
    remove(chain, object_store, PURGED.part_key(1, "zstd"))

    found = drill(chain, role, PURGED, now=now)

    assert (found.result, found.reason) == ("skipped", "its purge has begun since it was chosen")


def test_an_intent_that_somebody_planted_hides_no_failure(chain, role, object_store, now):
    """The log does not have it, so no purge has begun."""
    object_store.client("admin").put_object(
        Bucket=chain.settings.store.bucket, Key=PLANTED.purge_intent_key, Body=b"{}"
    )
    remove(chain, object_store, PLANTED.part_key(1, "zstd"))

    assert drill(chain, role, PLANTED, now=now).result == "failed"


def test_a_type_that_the_server_lacks_is_named(chain, role, monkeypatch, now):
    """As when a range type of a newer server meets an older scratch database."""
    lacking = Column(name="x", type="int128", base_type="int128", encoding="text")
    required = module.require_manifest

    def with_another(store, archive):
        manifest = required(store, archive)
        shape = manifest.table.model_copy(update={"columns": (*manifest.table.columns, lacking)})
        return manifest.model_copy(update={"table": shape})

    monkeypatch.setattr(module, "require_manifest", with_another)
    monkeypatch.setattr("strongroom.restore.target.is_builtin", lambda _: True)

    found = drill(chain, role, MAY, now=now)

    assert (found.result, found.reason) == ("skipped", "the scratch database has no type int128")


def test_an_archive_in_a_glacier_class_is_skipped_by_name_and_is_no_failure(chain, role, object_store, now):
    cold = dataclasses.replace(chain)
    cold.store = Store(Frozen(object_store.client("archiver"), MAY), chain.settings.store, author=chain.author)

    found = drill(cold, role, MAY, now=now)

    assert (found.result, found.rows) == ("skipped", 0)
    assert MAY.part_key(0, "zstd") in found.reason
    assert list(records(chain, now)) == [drill_key(MAY, now, "skipped")]
    assert scratch_tables(chain.conninfo) == []


def test_two_drills_of_one_archive_at_once_do_not_meet(chain, role, now):
    def one(number: int):
        with drilling(chain, role, f"drill-{number}") as session:
            choice = module.Choice(archive_id=str(MAY), reasons=("random",))
            return session.restore_and_record(choice, now=now + timedelta(seconds=number))

    with ThreadPoolExecutor(2) as both:
        found = list(both.map(one, range(2)))

    assert [each.result for each in found] == ["sound", "sound"]
    assert len(records(chain, now)) == len(records(chain, now + timedelta(seconds=1))) == 1
    assert scratch_tables(chain.conninfo) == []


def test_what_a_crash_left_is_dropped_by_the_next_drill_and_what_another_uses_is_not(chain, role, monkeypatch, now):
    pinned = module.pin

    def killed(connection):
        ask(chain.conninfo, "SELECT pg_terminate_backend(%s)::int", connection.info.backend_pid)
        pinned(connection)

    monkeypatch.setattr(module, "pin", killed)
    with pytest.raises(SourceError):
        drill(chain, role, MAY, now=now)
    [left] = scratch_tables(chain.conninfo)
    assert records(chain, now) == {}

    def look_and_pin(connection):
        others.append(scratch_tables(chain.conninfo))
        with drilling(chain, role, "another"):
            others.append(scratch_tables(chain.conninfo))
        pinned(connection)

    others: list[list[str]] = []
    monkeypatch.setattr(module, "pin", look_and_pin)
    assert drill(chain, role, MAY, now=now).result == "sound"

    assert others[0] == others[1] != []
    assert left not in others[0]
    assert scratch_tables(chain.conninfo) == []


def test_the_role_reads_and_writes_nothing_else(chain, role):
    """Every kind of statement is tried for real."""
    with psycopg.connect(role, autocommit=True) as connection:
        for statement in (
            "SELECT FROM audit",
            "INSERT INTO audit (at) VALUES (now())",
            "UPDATE audit SET who = 'forged'",
            "DELETE FROM audit",
            "TRUNCATE audit",
            "ALTER TABLE audit ADD extra text",
            "DROP TABLE audit",
            "CREATE TABLE public.mine (id int)",
            "CREATE SCHEMA mine",
            "CREATE ROLE mine",
            "SET ROLE postgres",
            "SET session_replication_role = replica",
            "SELECT pg_read_file('/etc/passwd')",
            "COPY audit TO PROGRAM 'true'",
            f"GRANT USAGE ON SCHEMA {SCRATCH} TO PUBLIC",
            f"DROP SCHEMA {SCRATCH}",
        ):
            if statement.startswith("GRANT"):
                connection.execute(statement)  # a warning: no privileges were granted
                continue
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        connection.execute(f"CREATE TABLE {SCRATCH}.mine (id int); DROP TABLE {SCRATCH}.mine")
    assert ask(chain.conninfo, f"SELECT nspacl::text LIKE '%%,=%%' FROM pg_namespace WHERE nspname = '{SCRATCH}'") == [
        (False,)
    ]


def test_a_scratch_database_without_the_schema_says_so_before_anything_is_read(chain, source, now):
    with pytest.raises(RestoreError, match="there is no schema strongroom_drill"):
        drill(chain, source, MAY, now=now)

    assert records(chain, now) == {}


def test_keys_of_drills_read_back_and_others_do_not():
    archive = ArchiveId("odd.schema", "a/table", "2026-05", 1)
    key = drill_key(archive, NOW, "sound")

    parsed = parse_drill_key(key)

    assert (parsed.archive, parsed.at, parsed.result) == (archive, NOW, "sound")
    assert key == f"reports/drills/odd%2Eschema.a%2Ftable/{archive}/20261123T120000.000000Z-sound.json"
    for other in ("reports/drills/runs/manual__1/20261123T120000.000000Z.json", key.replace("1123T", "1331T")):
        assert parse_drill_key(other) is None
