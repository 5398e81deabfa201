"""The rights that a session's role lacks, in words and as the GRANT statements to fix that."""

from __future__ import annotations

from strongroom.database.session import Session, fetch_rows
from strongroom.errors import SourceAccessError


class Rights:
    """Checks rights one after the other, and reports all that are missing in one error.

    Attributes:
        role: The role, quoted for SQL.
    """

    def __init__(self, connection: Session) -> None:
        self._connection = connection
        [(self.role,)] = fetch_rows(connection, "SELECT quote_ident(current_user)")
        self._missing: list[str] = []
        self._grants: list[str] = []

    def look_at_table(self, schema_name: str, table_name: str, *rights: str, why: str = "") -> None:
        """Check that the role has all these rights, may use the schema, and sees all rows."""
        for usage, schema, table, missing, hidden in fetch_rows(
            self._connection,
            "SELECT has_schema_privilege(n.oid, 'USAGE'), quote_ident(n.nspname), format('%%I.%%I', n.nspname, c.relname), "
            "ARRAY(SELECT r FROM unnest(%s::text[]) AS r WHERE NOT has_table_privilege(c.oid, r)), row_security_active(c.oid) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            list(rights),
            schema_name,
            table_name,
        ):
            name = f"{schema_name}.{table_name}{why}"
            if not usage:
                self._note(f"USAGE on schema {schema_name}", f"USAGE ON SCHEMA {schema}")
            for right in missing:
                self._note(f"{right} on {name}")
            if missing:
                self._note(None, f"{', '.join(missing)} ON {table}")
            if hidden:
                self._note(f"sight of all rows of {name}: row-level security hides some")

    def look_at_sequence(self, schema_name: str, name: str, right: str) -> None:
        """Check one right on a sequence. The GRANT covers everything that a restore needs."""
        [(held, sequence)] = fetch_rows(
            self._connection,
            "SELECT has_sequence_privilege(q, %s), q FROM (SELECT format('%%I.%%I', %s::text, %s::text) AS q) AS named",
            right,
            schema_name,
            name,
        )
        if not held:
            self._note(f"{right} on sequence {schema_name}.{name}", f"SELECT, UPDATE ON SEQUENCE {sequence}")

    def look_at_temporary_tables(self) -> None:
        """Check that the role may create temporary tables."""
        [(held, database)] = fetch_rows(
            self._connection,
            "SELECT has_database_privilege(current_database(), 'TEMPORARY'), quote_ident(current_database())",
        )
        if not held:
            self._note("TEMPORARY on the database", f"TEMPORARY ON DATABASE {database}")

    def require(self, where: str, *, safe: str) -> None:
        """Raise if anything was missing.

        Args:
            where: The table in question.
            safe: What did not happen, for the hint.

        Raises:
            SourceAccessError: Names the role and each right, and gives the statements to paste.
        """
        if not self._missing:
            return
        grants = "".join(f"\n  GRANT {each} TO {self.role};" for each in self._grants)
        paste = (
            f"As the owner of the table, or a superuser, run in psql:{grants}\nThen"
            if grants
            else "Let the role see all rows, then"
        )
        raise SourceAccessError(
            f"the role {self.role} lacks rights for {where}",
            found="no " + ", no ".join(self._missing),
            hint=f"{safe} {paste} clear the task, repeat the command or read the page again. (deploy/sql/roles.sql gives every role its rights on a table.)",
        )

    def _note(self, missing: str | None, grant: str | None = None) -> None:
        for one, noted in ((missing, self._missing), (grant, self._grants)):
            if one is not None and one not in noted:
                noted.append(one)
