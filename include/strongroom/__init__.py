"""Strongroom moves old PostgreSQL rows into proved archives. Plain Python: nothing here knows Airflow.

Each room knows only the rooms below it (``make lint`` checks that). From the top:

- ``recovery``    from nothing but a bucket and a recovery kit
- ``audit``       the report of a period for an auditor, from the transparency log; certificates as pages
- ``checks``      is a deployment fit: what it needs is really tried, and what it must be refused
- ``proposal``    a first archive.yaml for a database that nobody has looked at yet
- ``overview``    the state of each table and partition, for the pages and the map
- ``preview``     what runs would do, said without doing it; a saved plan, and what changed since
- ``statistics``  what is archived, waits and costs; when archives were last read again; pages and metrics
- ``drill``       archives are really restored now and then, compared, and dropped again
- ``erasure``     requests of one person: what is held about them, and erasing it from tables and archives
- ``archive``     the steps of a run, one module each: plan, extract_to_staging, compress, checksum, upload, verify, seal, detach, delete, report
- ``replication`` the second copy of a store: filled, and compared byte for byte
- ``restore``     archived rows come back: plan, load, report; Glacier
- ``query``       look inside archives without restoring them
- ``lake``        parquet archives as Iceberg tables, for Trino, Spark and others
- ``retention``   what ends: purge, sweep, condemn, warm and detached partitions
- ``tables``      work on live tables: guards, locks, pace, vacuum, the warm tier, comparing rows with an archive
- ``ledger``      what the store has on record: manifests, evidence, claims, holds, restores, the owner, the index
- ``storage``     the archive store, its bucket, staging
- ``database``    the source database: sessions, the table as it is, the SQL that writes and rebuilds rows
- ``formats``     bytes and rows without a server: JSON lines, parquet, codecs, type names
- ``tlog``        transparency logs in the formats of C2SP: hashes, tiles, signed notes
- ``settings``    ``archive.yaml`` and the environment, checked
- ``object_keys`` where each object lies in the store
- ``records``, ``calendar``, ``errors``  the words that all of them speak

There are no re-exports: importing a room loads none of its modules, and so not Arrow.
"""
