"""Tables that are archived together: what `with` makes of the settings, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from strongroom.errors import ConfigurationError
from strongroom.settings import Settings, load_settings

ORDERS = {"date_column": "placed_at", "legal_basis": "tax law", "cold_retention": "P10Y"}


def load(folder: Path, environ: Mapping[str, str] | None = None, **tables: Any) -> Settings:
    path = folder / "archive.yaml"
    path.write_text(yaml.safe_dump({"tables": tables}, sort_keys=False))
    return load_settings(path, environ or {})


def test_members_take_the_settings_of_their_root(tmp_path):
    """They need no section of their own. What speaks of the root's own rows is not theirs."""
    root = ORDERS | {"with": ["order_lines", "sales.notes"], "primary_key": ["id"], "accepted_delete_triggers": ["log"]}

    settings = load(tmp_path, orders=root, order_lines={"part_rows": 10, "primary_key": "line"})

    orders, lines, notes = (settings.table(name) for name in ("orders", "order_lines", "sales.notes"))
    assert [one.table for one in settings.members_of(orders)] == ["order_lines", "sales.notes"]
    assert (orders.is_member, lines.is_member, notes.is_member) == (False, True, True)
    assert (lines.date_column, lines.legal_basis, str(lines.cold_retention)) == ("placed_at", "tax law", "P10Y")
    assert (lines.part_rows, lines.primary_key, lines.accepted_delete_triggers) == (10, ("line",), ())
    assert (notes.part_rows, notes.primary_key) == (1_000_000, None)
    assert (orders.primary_key, notes.run_slug) == (("id",), "orders")
    assert lines.unit == orders.unit
    assert orders.unit is not None
    assert orders.unit.places == (("public", "orders"), ("public", "order_lines"), ("sales", "notes"))
    assert settings.members_of(lines) == ()


def test_a_variable_can_name_members(tmp_path):
    variables = {"STRONGROOM__TABLES__ORDERS__WITH": '["order_lines"]'}

    settings = load(tmp_path, variables, orders=ORDERS)

    assert settings.table("order_lines").is_member


def test_nothing_changes_without_members(tmp_path):
    settings = load(tmp_path, orders=ORDERS)

    assert (settings.table("orders").unit, settings.members_of(settings.table("orders"))) == (None, ())
    assert '"with"' not in settings.table("orders").model_dump_json()


LINES = {"with": ["order_lines"]}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"orders": ORDERS | LINES, "order_lines": ORDERS}, "tables.order_lines.date_column: expected nothing"),
        (
            {"orders": ORDERS | LINES, "order_lines": {"hot_retention": "P10D"}},
            "tables.order_lines.hot_retention: expected it in orders alone",
        ),
        (
            {"orders": ORDERS | LINES, "order_lines": {"with": ["notes"]}},
            "tables.order_lines.with: expected no members of its own",
        ),
        (
            {"orders": ORDERS | LINES, "invoices": ORDERS | {"with": ["public.order_lines"]}},
            "expected order_lines in one table's `with`, found it in that of orders too",
        ),
        ({"orders": ORDERS | {"with": ["orders"]}}, "expected other tables than orders itself"),
        ({"orders": ORDERS | {"with": ["a", "a"]}}, "expected each name once"),
        ({"orders": ORDERS | LINES | {"warm": True}}, "expected warm: false"),
        (
            {"orders": ORDERS | LINES | {"partition_delete": {"enabled": True}}},
            "expected partition_delete.enabled: false",
        ),
        (
            {"orders": ORDERS | LINES | {"subjects": {"columns": {"buyer": "name"}, "obligation": False}}},
            "expected no subjects.columns",
        ),
    ],
)
def test_what_a_unit_cannot_be_is_said(tmp_path, tables, expected):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, **tables)

    assert expected in caught.value.what


def test_a_fault_of_one_table_leaves_out_its_whole_unit(tmp_path):
    settings = load(
        tmp_path, audit=ORDERS, orders=ORDERS | {"with": ["order_lines", "notes"]}, order_lines={"part_rows": 0}
    )

    assert list(settings.tables) == ["audit"]
    assert set(settings.left_out) == {"orders", "order_lines", "notes"}
    assert "archived together with order_lines, which has a fault" in settings.left_out["orders"]


def test_members_are_no_default(tmp_path):
    path = tmp_path / "archive.yaml"
    path.write_text(yaml.safe_dump({"with": ["order_lines"], "tables": {"orders": ORDERS}}))

    with pytest.raises(ConfigurationError, match="found it at the top"):
        load_settings(path, {})
