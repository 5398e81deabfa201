"""What would make every DELETE on a readable table fail. Plan checks it before anything is read or written."""

from __future__ import annotations

from strongroom.database.session import Connection, fetch_rows
from strongroom.errors import SourceAccessError, UnarchivableError
from strongroom.settings import TableSettings

# A DELETE looks for the replica identity of the partition that has the row; a publication may name any table above it.
_PUBLISHED = """
WITH leaf AS (
    SELECT l.oid FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_class l ON l.oid = t.oid OR l.oid IN (SELECT relid FROM pg_partition_tree(t.oid))
    WHERE n.nspname = %s AND t.relname = %s AND l.relkind = 'r' AND (
        l.relreplident = 'n'
        OR (l.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid AND i.indisprimary))
        OR (l.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid AND i.indisreplident)))
)
SELECT l.oid::regclass::text, string_agg(DISTINCT p.pubname, ', ' ORDER BY p.pubname)
FROM leaf l
CROSS JOIN LATERAL (SELECT l.oid AS relid UNION SELECT relid FROM pg_partition_ancestors(l.oid)) AS above
JOIN pg_class c ON c.oid = above.relid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_publication_tables u ON u.schemaname = n.nspname AND u.tablename = c.relname
JOIN pg_publication p ON p.pubname = u.pubname AND p.pubdelete
GROUP BY l.oid ORDER BY 1
"""


def require_delete_allowed(connection: Connection, settings: TableSettings) -> None:
    """Check that the server allows deletes on a table at all.

    Raises:
        SourceAccessError: It is a standby, or sessions of the role are read-only.
        UnarchivableError: The table is in a publication of deletes and has no replica identity.
    """
    [(standby, read_only)] = fetch_rows(
        connection, "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
    )
    if standby:
        raise SourceAccessError(
            f"the source connection {settings.source_conn_id} leads to a standby, where no row can be deleted",
            expected="the primary",
            found="pg_is_in_recovery()",
            hint="Nothing was read and no row was deleted. Let it lead to the primary; to read rows from a standby, name it as "
            "`replica_conn_id`.",
        )
    if read_only:
        raise SourceAccessError(
            f"sessions of the source connection {settings.source_conn_id} are read-only, so no row can be deleted",
            expected="default_transaction_read_only off",
            found="on",
            hint="Nothing was read and no row was deleted. Look at the settings of role, database and server: "
            "ALTER ROLE … SET default_transaction_read_only = off.",
        )
    published = fetch_rows(connection, _PUBLISHED, settings.schema_name, settings.table_name)
    if published:
        tables = "; ".join(f"{table} (publication {names})" for table, names in published[:5])
        raise UnarchivableError(
            f"rows of {settings.qualified_name} cannot be deleted: it is published with its deletes and has no replica identity",
            expected="a replica identity",
            found=tables,
            hint="Nothing was read and no row was deleted. Let an owner run ALTER TABLE … REPLICA IDENTITY USING INDEX "
            "with the index of the table's key, or FULL; or take the table out of the publication.",
        )
