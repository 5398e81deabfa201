"""The documentation of the archive DAGs and their steps in the Airflow UI."""

from __future__ import annotations

from strongroom.settings import TableSettings

_STEPS = {
    "plan": """Decides what is due and what stays, and divides the window into parts. Writes nothing.

It refuses a run without a partition key, a window that is open or inside hot retention, a table that cannot be archived without
loss, and a store that belongs to another database. If an interrupted run left a sealed archive, it resumes that archive.
**Clear it** to start over: the run then takes the next archive id, and what was begun stays unused.""",
    "extract_to_staging": """Copies the part's rows out of the table as JSON lines or parquet, in one read-only snapshot, with a
SHA-256 of each block of some thousand rows beside them. **Clear it** at any time. A finished part is not read twice.""",
    "compress": """Compresses the JSON lines in staging as the settings say. Lines were extracted with zstd 1, parquet with its own
compression. If the settings ask for nothing else, the file stays as it is. **Clear it** at any time.""",
    "checksum": """Reads the compressed file again and computes its checksum, before anything leaves the machine. A mismatch fails at once: **clear `plan`** and the tasks after it.""",
    "upload": """Writes the part to a key that does not exist yet. The store checks the SHA-256 on arrival.
**Clear it** at any time. The same bytes are not written twice; other bytes under that key are an error.""",
    "verify": """Downloads the version that was uploaded, hashes it, decompresses it, hashes it again and counts the rows. The server
then rebuilds blocks of rows from what was archived, and their digests are compared with those of the live rows. The result is the verification record, without which
nothing can be deleted. **Clear it** at any time. It always reads the object again.""",
    "seal": """Writes SHA256SUMS and then the manifest. From then on the archive exists. **Clear it** at any time.""",
    "detach": """Detaches each partition whose rows are all in this archive. Before that, a trigger guards the partition against
changes, and its rows are compared with the archive. `delete` deletes the rows of all other partitions; the log says why.
Detached partitions wait, and the DAG `retention_purge` proves them again before it drops them. This step deletes nothing.
**Clear it** at any time. It continues where it stopped.""",
    "delete": """Deletes the part's rows in short transactions, block by block, by the range of their dates: the DELETE returns the rows, and a
block that differs from its archived form in any way is rolled back, and its rows are then compared and deleted one by one.
Rows that have changed, or that other rows now refer to, stay and are listed under `evidence/`. It pauses while standbys lag or other
sessions wait for it; the log says so. **Clear it** at any time. It continues after the last batch.""",
    "report": """Writes one summary: a report in the store, an asset event, metrics, a few lines in the log. Clears staging and
releases the claim. **Clear it** at any time.""",
}

_DAG = """
Archives the rows of **{table}** whose `{date_column}` is in the run's partition, proves the archive, and deletes exactly the rows
that it proved.{together}

`plan ▶ part[i]: extract_to_staging ▶ compress ▶ checksum ▶ upload ▶ verify ▶ seal ▶ {detach}delete[i] ▶ report`

| | |
|---|---|
| partition | {frequency}, in UTC |
| due | at the first tick of `{cron}` at or after the partition's end + {hot} |
| kept | {cold} from the partition's end: {legal_basis} |
| archives | `s3://{bucket}/{prefix}archives/{table}/` |
| parts | {format}, {compression} |

### Run it
The schedule runs each partition when it is due. To run one by hand, choose **Trigger**, **Advanced Options**, and enter a
**Partition Key** such as `{example}`. To run a range: `airflow dags backfill -s 2025-01-01 -e 2025-12-31 {dag_id}`.

`airflow strongroom archive {name} --before 2026-01-01 --dry-run` counts the rows of each partition that are still in the table. The
page of `archive_statistics` has them for all tables.

A partition inside hot retention is never archived, however the run was started. A second run of a partition archives only rows
that came later; without any, its outcome is `nothing_due`.

### When a task fails
No row is deleted before its archive was read back and sealed, so a failed run has lost nothing. Read the HINT of the error.

| failure | meaning | what to do |
|---|---|---|
| `PartitionError` | no key, a malformed key, or a partition that is not due | trigger with a key that is due; the message says when |
| `UnarchivableError` | something in the table cannot be archived without loss | the message names it; change the table or the settings, clear `plan` |
| `SourceAccessError`, `StoreAccessError` | wrong password, key or name, or a missing right | fix the connection, clear the task |
| `SourceError`, `StoreError` | the server cannot be reached, or the connection broke | Airflow retries; clear the task when no try is left |
| `StagingError` | the disk is full | free space, clear the task |
| `IntegrityError` | bytes, checksums or counts differ | nothing was deleted; find out why, then clear `plan` |
| `ContendedError` | another run works on this partition | wait for it; the claim of a dead run expires |
| `HeldError` | a hold stops all deletion | clear the task when the hold is released; the message names it |
| `OutOfTimeError` | the time that `stop_after` allows is over | clear the task when it may work on the database again |
| `PausedError` | somebody paused the table, or its orders are damaged, and nobody resumed it in time | `airflow strongroom resume`, then clear the task |
| `BusyError` | the database was above its `delete_limits` for too long | Airflow retries; find out what keeps the database busy |
| `IdentityError` | the store belongs to another database, or to none | give this database a bucket or prefix of its own; claim a new one with `airflow strongroom bucket claim` |
"""


def describe_dag(table: TableSettings) -> str:
    """The DAG's page: what it does, how to run it, what each failure means."""
    level = table.compression.effective_level
    return _DAG.format(
        table=table.qualified_name,
        date_column=table.date_column,
        together=_together(table),
        frequency=table.frequency.value,
        detach="detach ▶ " if table.partition_delete.enabled else "",
        cron=table.cron,
        hot=table.hot_retention.in_words,
        cold=table.cold_retention.in_words,
        legal_basis=table.legal_basis,
        bucket=table.store.bucket,
        prefix=f"{table.store.prefix}/" if table.store.prefix else "",
        format="JSON lines" if table.format == "jsonl" else table.format,
        compression=table.compression.type if level is None else f"{table.compression.type} level {level}",
        example=table.frequency.key_example,
        dag_id=f"archive__{table.slug}",
        name=table.table,
    )


def _together(table: TableSettings) -> str:
    if table.unit is None:
        return ""
    members = ", ".join(f"**{name}**" for name in table.unit.members)
    return (
        f" Rows of {members} go with the rows that their foreign keys lead to. Each table gets an archive of its own. No row is "
        "deleted before all of them are sealed, and children are deleted before their parents."
    )


def describe_step(task_id: str) -> str:
    """The documentation of one step."""
    return _STEPS[task_id]
