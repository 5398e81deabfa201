"""One schema of the columns that a table had over the years."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa

from strongroom.lake.columns import fit_columns
from strongroom.records import Column, TableShape, shape_sha256


def a_manifest(number: int, **columns: str):
    shape = TableShape(
        schema_name="public",
        table_name="audit",
        date_column="at",
        date_type="timestamptz",
        primary_key=("id",),
        columns=tuple(Column(name=name, type=kind, base_type=kind, encoding="json") for name, kind in columns.items()),
        well_known_types=True,
    )
    return SimpleNamespace(
        archive_id=f"public.audit.2026-{number:02}.0001", table=shape, shape_sha256=shape_sha256(shape)
    )


def test_types_grow_and_the_columns_of_the_table_stay():
    present = pa.schema([("id", pa.int32()), ("old", pa.large_string())])

    fitted = fit_columns(
        present, [a_manifest(1, id="smallint", part="real"), a_manifest(2, id="bigint", part="double precision")]
    )

    assert dict(zip(fitted.schema.names, fitted.schema.types, strict=True)) == {
        "id": pa.int64(),
        "old": pa.string(),
        "part": pa.float64(),
        "strongroom_exact": pa.string(),
    }
    assert (len(fitted.manifests), fitted.left_out) == (2, ())


def test_an_archive_with_another_type_is_left_out_with_the_reason_and_changes_nothing():
    fitted = fit_columns(
        None,
        [
            a_manifest(1, id="bigint", cost="numeric(8,2)"),
            a_manifest(2, id="bigint", cost="numeric(8,3)", more="date"),
            a_manifest(3, id="bigint"),
        ],
    )

    assert [one.archive_id[-7:-5] for one in fitted.manifests] == ["01", "03"]
    [left_out] = fitted.left_out
    assert left_out.detail == "column 'cost' is decimal128(8, 3) in it, and decimal128(8, 2) in the table"
    assert "more" not in fitted.schema.names


def test_columns_that_differ_in_case_alone_are_no_table():
    [left_out] = fit_columns(None, [a_manifest(1, id="bigint", Who="date", who="date")]).left_out

    assert "'Who' and 'who' differ in case alone" in left_out.detail
