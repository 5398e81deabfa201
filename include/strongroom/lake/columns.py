"""The columns of an Iceberg table whose source had others over the years.

A column that was added is NULL in earlier archives, and one that was dropped stays, NULL in later ones. A renamed column is two. A type may become wider
where Iceberg allows it. An archive with a column whose type is another one is left out: the earlier type stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.formats.arrow import pa
from strongroom.formats.parquet import part_schema
from strongroom.lake.records import LeftOut
from strongroom.ledger.manifest_record import Manifest


@dataclass(frozen=True)
class Fitted:
    """Archives that fit into one table.

    Attributes:
        schema: Arrow's schema of the table that holds them all.
        manifests: Those that fit, in the order in which they were given.
        left_out: The others.
    """

    schema: Any
    manifests: tuple[Manifest, ...]
    left_out: tuple[LeftOut, ...]


def fit_columns(present: Any, manifests: Iterable[Manifest]) -> Fitted:
    """Make one schema of the columns of several archives.

    Args:
        present: Arrow's schema of the table as it is; None if there is none. Its columns stay.
        manifests: Oldest first: in case of doubt the type of the earlier one counts.
    """
    types: dict[str, Any] = {} if present is None else {field.name: _as_iceberg(field.type) for field in present}
    seen: dict[str, str | None] = {}
    fitting, left_out = [], []
    for manifest in manifests:
        if manifest.shape_sha256 not in seen:
            merged = _merge(types, part_schema(manifest.table))
            seen[manifest.shape_sha256] = merged if isinstance(merged, str) else None
            types = types if isinstance(merged, str) else merged
        why = seen[manifest.shape_sha256]
        if why is None:
            fitting.append(manifest)
        else:
            left_out.append(LeftOut(archive_id=manifest.archive_id, reason="other_columns", detail=why))
    return Fitted(pa.schema(list(types.items())), tuple(fitting), tuple(left_out))


def _merge(types: Mapping[str, Any], schema: Any) -> dict[str, Any] | str:
    """The columns with those of another schema, or why they do not go together."""
    merged = dict(types)
    spelled = {name.casefold(): name for name in merged}
    for field in schema:
        known = spelled.setdefault(field.name.casefold(), field.name)
        if known != field.name:
            return f"columns {known!r} and {field.name!r} differ in case alone, which many readers cannot tell apart"
        wanted = _as_iceberg(field.type)
        found = merged.get(field.name, wanted)
        wider = _wider(found, wanted)
        if wider is None:
            return f"column {field.name!r} is {wanted} in it, and {found} in the table"
        merged[field.name] = wider
    return merged


def _as_iceberg(type: Any) -> Any:
    """The type that Iceberg has for one of ours: it knows no integer of 16 bits, and text of one size only."""
    if pa.types.is_large_string(type):
        return pa.string()
    return pa.int32() if pa.types.is_int16(type) else type


def _wider(one: Any, other: Any) -> Any:
    """The type that holds the values of both, if Iceberg can widen one to the other; else None."""
    if one == other:
        return one
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return pa.int64()
    if pa.types.is_floating(one) and pa.types.is_floating(other):
        return pa.float64()
    if pa.types.is_decimal(one) and pa.types.is_decimal(other) and one.scale == other.scale:
        return pa.decimal128(max(one.precision, other.precision), one.scale)
    return None
