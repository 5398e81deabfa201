"""What cannot go as a whole goes by key, and the evidence says why."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strongroom.errors import IdentityError, SourceAccessError
from tests.support.chain import Chain
from tests.support.database import execute, scalar
from tests.support.partitions import (
    COOLED,
    DEFAULT,
    HELD,
    ROWS,
    TABLE,
    left,
    tables,
)

NOT_COVERED = {
    "a foreign key that points at it": (
        TABLE + ROWS + "CREATE TABLE notes (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES audit);",
        "rows of others may refer to its rows: public.notes (notes_id_at_fkey)",
    ),
    "a foreign key of its own that follows": (
        "CREATE TABLE agents (id bigint PRIMARY KEY); INSERT INTO agents VALUES (1);"
        + TABLE
        + "ALTER TABLE audit ADD agent bigint DEFAULT 1 REFERENCES agents ON DELETE CASCADE;"
        + ROWS,
        "its rows follow changes of others (audit_agent_fkey)",
    ),
    "a table without partitions": (
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric);" + ROWS,
        "the table is not partitioned",
    ),
    "hash partitions": (
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric) PARTITION BY HASH (id);"
        "CREATE TABLE audit_0 PARTITION OF audit FOR VALUES WITH (MODULUS 1, REMAINDER 0);" + ROWS,
        "the table is not partitioned by range of at",
    ),
    "list partitions": (
        "CREATE TABLE audit (id bigint, at timestamptz NOT NULL, who text, cost numeric, kind int DEFAULT 1, PRIMARY KEY (id, kind)) "
        "PARTITION BY LIST (kind); CREATE TABLE audit_1 PARTITION OF audit FOR VALUES IN (1);" + ROWS,
        "the table is not partitioned by range of at",
    ),
    "ranges of another column": (
        "CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text, cost numeric) PARTITION BY RANGE (id);"
        "CREATE TABLE audit_1 PARTITION OF audit FOR VALUES FROM (1) TO (1000);" + ROWS,
        "the table is not partitioned by range of at",
    ),
}


@pytest.mark.parametrize(("ddl", "reason"), NOT_COVERED.values(), ids=NOT_COVERED)
def test_a_table_whose_partitions_cannot_go_as_a_whole_loses_its_rows_by_key(make_chain, ddl, reason):
    chain = make_chain(ddl)
    sealed = chain.seal(chain.plan())

    evidence = chain.detach(sealed.parts)

    assert (evidence.note, evidence.detached) == (reason, ())
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


LEFT = {
    "a partition with partitions": (
        TABLE.replace("TO ('2026-06-01+00')", "TO ('2026-06-01+00') PARTITION BY RANGE (at)", 1)
        + "CREATE TABLE audit_2026_05_all PARTITION OF audit_2026_05 FOR VALUES FROM ('2026-05-01+00') TO ('2026-06-01+00');"
        + ROWS,
        "it is partitioned itself",
    ),
    "a partition that a view reads": (
        TABLE + ROWS + "CREATE VIEW may AS SELECT * FROM audit_2026_05;",
        "it is read by public.may",
    ),
    "a name that is taken": (
        TABLE + ROWS + f"CREATE TABLE {HELD}.audit_2026_05 ();",
        f"there is a audit_2026_05 in schema {HELD} already",
    ),
}


@pytest.mark.parametrize(("ddl", "reason"), LEFT.values(), ids=LEFT)
def test_a_partition_that_cannot_go_as_a_whole_loses_its_rows_by_key(make_chain, ddl, reason):
    chain = make_chain(ddl)
    sealed = chain.seal(chain.plan())

    evidence = chain.detach(sealed.parts)

    assert left(evidence) == {"audit_2026_05": reason}
    assert sum(chain.delete(part).deleted for part in sealed.parts) == 744


def test_a_delete_trigger_that_was_accepted_still_fires_for_each_row(make_chain):
    """To drop a table would not fire it."""
    chain = make_chain(
        TABLE
        + ROWS
        + "CREATE TABLE fired (id bigint); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "'BEGIN INSERT INTO public.fired VALUES (OLD.id); RETURN OLD; END';"
        "CREATE TRIGGER note AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION note()",
        accepted_delete_triggers=["note"],
    )

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows) == (0, 744)
    assert scalar(chain.owner, "SELECT count(*) FROM fired") == 744


def test_rows_that_move_to_the_warm_tier_go_by_key(make_chain, source):
    from strongroom.calendar import Frequency, Partition
    from strongroom.tables.warm_script import warm_script

    chain = make_chain(warm=True)
    with chain.source() as connection:
        until = Partition.parse(Frequency.MONTHLY, "2027-01")
        script = warm_script(connection, chain.settings, now=chain.now, until=until)
    with psycopg.connect(source) as connection:
        for statement in script:
            connection.execute(statement)

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows) == (0, 744)
    assert scalar(source, "SELECT count(*) FROM warm.audit") == 744


def test_an_archive_of_late_rows_does_not_take_the_partition_that_an_earlier_one_has_emptied(make_chain):
    chain = make_chain(partition_delete={})
    chain.run()
    execute(chain.owner, "INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)")
    later = make_settings_on(chain)

    report = later.run()

    assert (report.archived_rows, report.detached_rows) == (1, 1)


def make_settings_on(chain: Chain) -> Chain:
    settings = chain.settings.model_copy(
        update={"partition_delete": chain.settings.partition_delete.model_copy(update={"enabled": True})}
    )
    return Chain(chain.conninfo, chain.client, settings, owner=chain.owner)


def test_a_table_that_refers_to_others_is_detached_and_brought_back_with_its_foreign_keys(make_chain):
    """Keys that follow nothing: the rows referred to cannot go while the partition waits, as before."""
    chain = make_chain(
        "CREATE TABLE agents (id bigint PRIMARY KEY); INSERT INTO agents VALUES (1), (2);"
        + TABLE
        + "ALTER TABLE audit ADD agent bigint DEFAULT 1 REFERENCES agents;"
        + ROWS
    )
    sealed = chain.seal(chain.plan())

    [waiting] = chain.detach(sealed.parts).detached

    with pytest.raises(errors.ForeignKeyViolation):
        execute(chain.owner, "DELETE FROM agents WHERE id = 1")
    execute(chain.owner, waiting.bring_back)
    assert scalar(chain.owner, "SELECT count(*) FROM audit WHERE agent = 1") == 800


def test_a_clone_of_the_database_drops_nothing_by_its_originals_archive(chain, postgres, source):
    """A clone has the detached table too, under the same number."""
    chain.run()
    clone = f"{conninfo_to_dict(source)['dbname']}_clone"
    execute(postgres.conninfo(), f"CREATE DATABASE {clone} TEMPLATE {conninfo_to_dict(source)['dbname']}")
    there = replace(chain, owner=make_conninfo(chain.owner, dbname=clone))

    with pytest.raises(IdentityError, match="belongs to another database"):
        there.drop_detached(now=COOLED)

    assert scalar(there.owner, f"SELECT count(*) FROM {HELD}.audit_2026_05") == 744
    execute(postgres.conninfo(), f"DROP DATABASE {clone} WITH (FORCE)")


def test_a_role_that_does_not_own_the_table_is_refused_and_a_missing_schema_too(chain, source):
    sealed = chain.seal(chain.plan())
    owner, chain.owner = chain.owner, chain.conninfo

    with pytest.raises(SourceAccessError, match=r"no ownership of public\.audit"):
        chain.detach(sealed.parts)
    chain.owner = owner
    execute(source, f"DROP SCHEMA {HELD}")
    with pytest.raises(SourceAccessError, match="may not create tables in schema strongroom_detached"):
        chain.detach(sealed.parts)

    assert scalar(source, "SELECT count(*) FROM audit") == 800


def test_a_default_partition_takes_part_without_a_concurrent_detach(make_chain):
    """Rows of the window can lie in it only while no other partition is for them; they go by key."""
    ddl = TABLE.replace("'2026-05-01+00') TO", "'2026-05-08+00') TO") + DEFAULT + ROWS
    chain = make_chain(ddl)

    report = chain.run()

    assert (report.detached_rows, report.deleted_rows, report.gone_rows) == (576, 168, 0)
    assert tables(chain)["partitions"] == ["audit_2026_04", "audit_2026_06", "audit_rest"]
    execute(chain.owner, "INSERT INTO audit VALUES (9000, '2026-05-20 10:30+00', 'late', 1)")
    assert scalar(chain.owner, "SELECT count(*) FROM audit_rest") == 1
    assert [one.result for one in chain.drop_detached(now=COOLED)] == ["dropped"]
