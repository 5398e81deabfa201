"""Which foreign keys tie tables together, and what is refused by name."""

from __future__ import annotations

import pytest

from strongroom.database.inspect import inspect_table
from strongroom.database.session import open_source
from strongroom.database.units import read_unit
from strongroom.errors import UnarchivableError
from strongroom.settings.units import UnitSettings
from tests.support.chain import some_settings
from tests.support.database import execute

TABLES = """
CREATE TABLE orders (id integer PRIMARY KEY, at timestamptz NOT NULL);
CREATE TABLE lines (id integer PRIMARY KEY, order_id integer REFERENCES orders);
CREATE TABLE notes (id integer PRIMARY KEY, line_id integer REFERENCES lines);
CREATE TABLE others (id integer PRIMARY KEY, order_id integer REFERENCES orders, line_id integer REFERENCES lines);
"""

ORDERS, LINES, NOTES, OTHERS = (("public", name) for name in ("orders", "lines", "notes", "others"))


@pytest.fixture(scope="module")
def tables(shared_source) -> str:
    execute(shared_source, TABLES)
    return shared_source


def found(conninfo: str, *places: tuple[str, str]):
    with open_source(conninfo, application_name="test") as connection:
        return read_unit(connection, places)


def test_parents_come_before_their_children_and_each_knows_its_way_up(tables):
    unit, faults = found(tables, ORDERS, NOTES, LINES)

    assert faults == []
    assert unit is not None
    assert [one.place for one in unit.tables] == [ORDERS, LINES, NOTES]
    assert [hop.parent for hop in unit.table(NOTES).path] == [LINES, ORDERS]
    assert {one.place: [each.table_name for each in one.outside] for one in unit.tables} == {
        ORDERS: ["others"],
        LINES: ["others"],
        NOTES: [],
    }


@pytest.mark.parametrize(
    ("places", "fault"),
    [
        ((ORDERS, NOTES), "no foreign key leads from public.notes to public.orders or to another member of its unit"),
        (
            (ORDERS, LINES, OTHERS),
            "several foreign keys lead from public.others into its unit (others_order_id_fkey to public.orders, "
            "others_line_id_fkey to public.lines), so a row may belong to two objects",
        ),
        ((ORDERS, LINES, ("public", "gone")), "there is no table public.gone, which its unit names"),
    ],
)
def test_what_ties_no_objects_together_is_told(tables, places, fault):
    assert found(tables, *places) == (None, [fault])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            "ALTER TABLE orders ADD COLUMN newest integer CONSTRAINT back REFERENCES lines",
            "public.orders refers to public.lines (back), which belongs to it: neither could be deleted first",
        ),
        (
            "ALTER TABLE lines ADD COLUMN before integer CONSTRAINT thread REFERENCES lines",
            "public.lines refers to itself (thread), so its rows are no part of one object each",
        ),
        (
            "ALTER TABLE lines DROP CONSTRAINT lines_order_id_fkey, ADD CONSTRAINT round FOREIGN KEY (id) REFERENCES notes",
            "the foreign keys of public.lines, public.notes go round in a circle and do not lead to public.orders",
        ),
        (
            "ALTER TABLE lines DROP CONSTRAINT lines_order_id_fkey, "
            "ADD CONSTRAINT follow FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE",
            "a DELETE would also delete rows of public.lines (follow)",
        ),
    ],
)
def test_what_cannot_be_deleted_children_first_is_refused(source, tmp_path, change, fault):
    execute(source, TABLES + change)
    settings = some_settings("bucket", tmp_path, "orders").in_unit(UnitSettings(("orders", "lines", "notes")))

    with open_source(source, application_name="test") as connection, pytest.raises(UnarchivableError) as caught:
        inspect_table(connection, settings)

    assert fault in caught.value.what


def test_a_foreign_key_that_proves_no_parent_makes_no_unit(source):
    execute(
        source,
        TABLES + "ALTER TABLE lines DROP CONSTRAINT lines_order_id_fkey; INSERT INTO lines VALUES (1, 404); "
        "ALTER TABLE lines ADD CONSTRAINT later FOREIGN KEY (order_id) REFERENCES orders NOT VALID",
    )

    unit, faults = found(source, ORDERS, LINES)

    assert (unit, faults) == (
        None,
        [
            "the foreign key later of public.lines is NOT VALID or NOT ENFORCED, so rows may refer to none of public.orders"
        ],
    )


def test_a_foreign_key_to_a_table_partition_makes_no_unit(source):
    """Another partition may have an order of the same number."""
    execute(
        source,
        """
        CREATE TABLE orders (id integer, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE orders_of_may PARTITION OF orders FOR VALUES FROM ('2026-05-01Z') TO ('2026-06-01Z');
        ALTER TABLE orders_of_may ADD UNIQUE (id);
        CREATE TABLE lines (id integer PRIMARY KEY, order_id integer CONSTRAINT of_may REFERENCES orders_of_may (id));
        """,
    )

    unit, faults = found(source, ORDERS, LINES)

    assert unit is None
    assert faults == [
        "the foreign key of_may of public.lines leads to a table partition of public.orders, so a row may belong to rows of several"
    ]


def test_a_row_that_refers_to_another_one_of_the_root_is_outside_its_object(source):
    """An order that replaces another one keeps that one, as without members."""
    execute(source, TABLES + "ALTER TABLE orders ADD COLUMN replaces integer CONSTRAINT replaced REFERENCES orders")

    unit, faults = found(source, ORDERS, LINES)

    assert faults == []
    assert unit is not None
    assert [one.name for one in unit.table(ORDERS).outside] == ["replaced", "others_order_id_fkey"]
