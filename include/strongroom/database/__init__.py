"""The source database, read: nothing in this room changes a row.

- ``session``       open a session, pin its settings, translate its errors; which database it is
- ``server_kind``   which server this is, which extensions change its tables, and what was tried with it
- ``other_retention``  whether an extension takes rows out of a table by itself
- ``replica``       read from a standby when that is safe
- ``rights``, ``delete_allowed``  what the role may not do, and what would stop every DELETE
- ``tried_rights``  what a role may do to a table, tried with statements that change nothing
- ``inspect``       look a table up, and refuse what cannot be archived (why: each refusal is here or in ``column_types``)
- ``questions``     ask everything that an inspection asked again, in one statement
- ``column_types``  how each column goes into an archive, and which types cannot
- ``references``, ``triggers``  foreign keys that point at a table, and triggers that a DELETE fires
- ``units``, ``paths``  tables whose rows are archived together, and SQL that follows the foreign keys between them
- ``date_index``    whether rows can be read and deleted by ranges of their date
- ``rows``          SQL: which rows are due, what COPY selects as a row's canonical text, and a row's JSON line with its digest
- ``copy_in``, ``copy_out``  send rows to a COPY, and receive them
- ``key_batch``     archived keys and line digests as a temporary table
- ``rebuild``       archived lines as rows again, inside the server
- ``waits``         which sessions wait for a lock, and whose
- ``retry``         run a transaction again when another session was in the way
"""
