"""Parquet archives as Iceberg tables: other tools query all years of a table as one. Nothing here writes to an archive.

- ``records``    what is said of a table: which archives are in it, which are left out, and why
- ``places``     the two places: archives, which are only read, and a bucket of its own, which is written
- ``file_io``    these places as PyIceberg reads and writes them
- ``choose``     which archives belong to the table now
- ``columns``    the columns of a table whose source changed over the years
- ``catalogue``  the catalogue that names the tables
- ``contents``   what a table holds now
- ``reconcile``  makes a table hold what it should, in one commit, and removes what no longer belongs to it
- ``retire``     drops the tables that the settings do not ask for any more

PyIceberg is an optional dependency (``pip install "strongroom[iceberg]"``). Only ``file_io``, ``catalogue``, ``contents``, ``reconcile`` and ``retire`` load it.
"""
