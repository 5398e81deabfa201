"""Archived rows back into a table.

The three steps, in their order:

- ``plan``    find the archives, check that the target takes their rows, record the restore
- ``load``    prove the object of one part (``download``), then load its rows (``loader``, ``straight_copy``)
- ``report``  move the sequences and keep the report (``history`` reads such reports)

What they work with:

- ``records``, ``progress``  what was asked for, the plan and the results; how far a part has come
- ``target``, ``fit``, ``sequences``  the table, how archived columns go into it, and its sequences
- ``part_batches``, ``lane``  the rows of a part, a batch at a time; parts one after the other
- ``statements``, ``target_rows``, ``refusals``  the SQL of a load, the rows read back, and why a load failed
- ``erased``  let no restore bring a person back who was erased
- ``claims``, ``thaw``  keep other runs away; ask for parts in a Glacier class

Nothing here changes an archive or deletes a row.
"""
