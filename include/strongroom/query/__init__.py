"""Look inside archives without restoring them. Nothing here changes an archive, or reads a database.

A query, from its request to its rows:

- ``run``      all of it in order: locate, search each part, put it on record, let the rows be seen
- ``locate``   which archives may have such rows, and which in the range exist no more
- ``searcher`` starts the process that searches, fetches part after part for it, and ends it
- ``child``    that process; ``search`` is what it does with a part
- ``result``   the rows in staging: written, opened, as CSV and as JSON lines; ``row_lines`` are the lines of their file

What they work with:

- ``records``     what was asked for, the outcome, and the record that the store keeps
- ``conditions``  conditions: read, checked against columns, decided on the texts of values
- ``values``      how the values of each type compare
- ``sieve``, ``sandbox``  what DuckDB is asked first, and how it is shut in
"""
