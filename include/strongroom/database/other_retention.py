"""Whether somebody else takes old rows out of a table: a retention of pg_partman's own, which asks no archive."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from strongroom.database.session import Connection, fetch_rows


@dataclass(frozen=True)
class OtherRetention:
    """A retention that is not ours.

    Attributes:
        says: What it does to the table, or why nobody can tell.
        fix: The statement that ends it, or that lets one tell.
        known: Whether it was read. If not, the role may not read pg_partman's settings.
    """

    says: str
    fix: str
    known: bool = True


def other_retention(connection: Connection, schema_name: str, table_name: str) -> OtherRetention | None:
    """Look for a retention of pg_partman's on a partitioned table; None if there is none.

    A partition that it drops or detaches leaves the table with every row in it, archived or not, and no run sees these rows again.
    """
    found = fetch_rows(
        connection,
        "SELECT n.nspname::text, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') "
        "FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'part_config' WHERE e.extname = 'pg_partman' AND EXISTS ("
        "SELECT FROM pg_class t WHERE t.oid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND t.relkind = 'p')",
        schema_name,
        table_name,
    )
    if not found:
        return None
    [(schema, readable)] = found
    config = sql.Identifier(schema, "part_config").as_string(connection)
    if not readable:
        role = sql.Identifier(connection.info.user).as_string(connection)
        return OtherRetention(
            f"nobody can tell: this role may not read {config}",
            f"GRANT USAGE ON SCHEMA {sql.Identifier(schema).as_string(connection)} TO {role}; GRANT SELECT ON {config} TO {role};",
            known=False,
        )
    rows = fetch_rows(
        connection,
        f"SELECT parent_table, retention, retention_keep_table AND retention_schema IS NULL, retention_schema FROM {config} "  # noqa: S608 - an identifier
        "WHERE parent_table = %s AND retention IS NOT NULL",
        f"{schema_name}.{table_name}",
    )
    if not rows:
        return None
    [(parent, retention, detaches, moved_to)] = rows
    does = f"moves them to schema {moved_to}" if moved_to else "detaches them" if detaches else "drops them"
    return OtherRetention(
        f"pg_partman takes out partitions that are older than {retention} and {does}, whether their rows were archived or not",
        f"UPDATE {config} SET retention = NULL WHERE parent_table = {sql.Literal(parent).as_string(connection)};",  # noqa: S608 - quoted
    )
