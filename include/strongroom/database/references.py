"""Foreign keys that point at a table, and which of them make it impossible to archive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from strongroom.database.session import Session, fetch_rows

_FOLLOWED = {"c": "also delete", "n": "set columns to NULL in", "d": "set columns to their default in"}
"""What a foreign key does to referring rows, by pg_constraint.confdeltype."""


@dataclass(frozen=True)
class Reference:
    """A foreign key of some table that points at ours.

    Attributes:
        name: Constraint name.
        schema_name: Schema of the referring table.
        table_name: The referring table.
        referring: The columns of the referring table.
        referred: Our columns, in the same order.
        operators: Schema and name of the equality operator for each pair of columns, ours on the left.
        collations: Schema and name of our column's collation where the two sides differ; else None.
        on_delete: pg_constraint.confdeltype.
        temporal: Whether the last pair is a period, which may be referred to without being equal.
        validated: Whether each referring row is known to refer to one of ours. It is not with NOT VALID or NOT ENFORCED.
        to_partition: Whether it points at one of our table partitions, so that other partitions may have rows of the same values.
    """

    name: str
    schema_name: str
    table_name: str
    referring: tuple[str, ...]
    referred: tuple[str, ...]
    operators: tuple[tuple[str, str], ...]
    collations: tuple[tuple[str, str] | None, ...]
    on_delete: str
    temporal: bool
    validated: bool
    to_partition: bool


_REFERENCES = """
SELECT f.conname::text, n.nspname::text, c.relname::text, f.confdeltype::text,
       coalesce((to_jsonb(f) ->> 'conperiod')::boolean, false), f.convalidated,
       f.confrelid IN (SELECT relid FROM pg_partition_tree(%s) WHERE level > 0),
       ours.attname::text, theirs.attname::text, operator_schema.nspname::text, o.oprname::text,
       CASE WHEN ours.attcollation <> theirs.attcollation THEN collation_schema.nspname::text END, l.collname::text
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(f.conkey, f.confkey, f.conpfeqop) WITH ORDINALITY AS k(referring, referred, operator, position)
JOIN pg_attribute ours ON ours.attrelid = f.confrelid AND ours.attnum = k.referred
JOIN pg_attribute theirs ON theirs.attrelid = f.conrelid AND theirs.attnum = k.referring
JOIN pg_operator o ON o.oid = k.operator
JOIN pg_namespace operator_schema ON operator_schema.oid = o.oprnamespace
LEFT JOIN pg_collation l ON l.oid = ours.attcollation
LEFT JOIN pg_namespace collation_schema ON collation_schema.oid = l.collnamespace
WHERE f.contype = 'f' AND f.conparentid = 0
  AND f.confrelid IN (
      SELECT %s::oid UNION SELECT relid FROM pg_partition_tree(%s) UNION SELECT relid FROM pg_partition_ancestors(%s)
  )
ORDER BY n.nspname, c.relname, f.conname, f.oid, k.position
"""


def read_references(connection: Session, oid: int) -> tuple[Reference, ...]:
    """Foreign keys that point at a table, at one of its table partitions, or at a table that it is a partition of."""
    rows = fetch_rows(connection, _REFERENCES, oid, oid, oid, oid)
    references = []
    for constraint, pairs in groupby(rows, key=itemgetter(slice(7))):
        name, schema_name, table_name, on_delete, temporal, validated, to_partition = constraint
        referred, referring, *compared = zip(*(pair[7:] for pair in pairs), strict=True)
        operator_schemas, operators, collation_schemas, collations = compared
        references.append(
            Reference(
                name=name,
                schema_name=schema_name,
                table_name=table_name,
                referring=referring,
                referred=referred,
                operators=tuple(zip(operator_schemas, operators, strict=True)),
                collations=tuple(
                    (schema, collation) if schema is not None else None
                    for schema, collation in zip(collation_schemas, collations, strict=True)
                ),
                on_delete=on_delete,
                temporal=temporal,
                validated=validated,
                to_partition=to_partition,
            )
        )
    return tuple(references)


def reference_faults(references: Iterable[Reference]) -> list[str]:
    """Name the foreign keys that would change the referring rows.

    Excluding the referenced rows is not enough: a new reference could appear between the look and the DELETE, and the server
    would follow it, where NO ACTION and RESTRICT refuse the DELETE.
    """
    faults = []
    for one in references:
        where = f"{one.schema_name}.{one.table_name} ({one.name})"
        if one.on_delete in _FOLLOWED:
            faults.append(f"a DELETE would {_FOLLOWED[one.on_delete]} rows of {where}")
        elif one.temporal:
            faults.append(f"periods of its rows are referred to by {where}")
    return faults
