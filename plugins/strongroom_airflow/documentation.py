"""What the Airflow UI tells about a DAG and its steps."""

from __future__ import annotations

from strongroom.settings import TableSettings

_STEPS = {
    "plan": """Says what is due and what stays, and cuts the window into parts. Writes nothing.

Refuses a run without a partition key, a window that is open or inside hot retention, a table that cannot be archived
without loss, and a store that belongs to another database. Finds an archive that a broken run left half-way and goes on
with it. **Clear it** to start over: the run then takes the next archive id, what was begun stays unused.""",
    "extract_to_staging": """Streams the part's rows out of the table as JSON lines or parquet, in one read-only snapshot, and beside
them primary key and SHA-256 of each row. **Clear it** at any time; a finished part is not read twice.""",
    "compress": "Compresses the JSON lines in staging; parquet, which is compressed inside, is passed on. **Clear it** at any time.",
    "checksum": """Sums the compressed file, decompresses it and compares, before anything leaves the machine.
A mismatch fails at once: **clear `plan`** and what follows.""",
    "upload": """Writes the part to a key that nothing has yet; the store checks the SHA-256 on arrival.
**Clear it** at any time: the same bytes are not written twice, other bytes under that key are an error.""",
    "verify": """Downloads the very version that was uploaded, hashes it, decompresses it, hashes again, counts the rows, and
has the server rebuild rows from the archived lines and compare their digests. Its result is the verification record, the
only way to a DELETE. **Clear it** at any time; it always reads again.""",
    "seal": """Writes SHA256SUMS and then the manifest. From here on the archive exists. **Clear it** at any time.""",
    "detach": """Detaches each partition of which every row is one of this archive, after it was guarded against changes and compared
with the archive key by key. Whatever is not covered goes by key in `delete`; the log says why. Detached partitions wait, and the DAG
`retention_purge` proves them again before it drops them. Deletes nothing. **Clear it** at any time: it goes on where it was.""",
    "delete": """Deletes the part's rows by primary key in short transactions, only those whose digest is still the archived
one. Rows that changed, or that others refer to now, stay and are listed under `evidence/`. Pauses by itself while standbys
lag or others wait for it; the log says so. **Clear it** at any time: it goes on behind the last batch.""",
    "report": """One summary: a report in the store, an asset event, metrics, a few lines in the log. Clears staging and gives the
claim back.""",
}

_DAG = """
Moves the rows of **{table}** whose `{date_column}` lies in the run's partition into a proved archive, and deletes exactly
the rows that it proved.

`plan ▶ part[i]: extract_to_staging ▶ compress ▶ checksum ▶ upload ▶ verify ▶ seal ▶ {detach}delete[i] ▶ report`

| | |
|---|---|
| partition | {frequency}, in UTC |
| due | at the first tick of `{cron}` at or after the partition's end + {hot} |
| kept | {cold} from the partition's end: {legal_basis} |
| archives | `s3://{bucket}/{prefix}archives/{table}/` |
| parts | {format}, {compression} |

### Run it
The schedule runs each partition when it falls due. By hand: **Trigger**, **Advanced Options**, and a **Partition Key** such as
`{example}`; or backfill a range: `airflow dags backfill -s 2025-01-01 -e 2025-12-31 {dag_id}`. How many rows of each partition wait says
`airflow strongroom archive {name} --before 2026-01-01 --dry-run`, and the page of `archive_statistics` for all of them. A partition inside hot retention is never archived,
whichever way the run was started. A second run of a partition archives only what came late, and says `nothing_due` when
nothing did.

### When a task fails
No row is deleted before its archive was read back and sealed, so a failed run has lost nothing. Read the error's HINT.

| failure | meaning | what to do |
|---|---|---|
| `PartitionError` | no key, a malformed key, or not due yet | trigger with a key that is due; the message says when |
| `UnarchivableError` | the table has something that cannot be archived without loss | the message names it; change table or settings, clear `plan` |
| `SourceAccessError`, `StoreAccessError` | wrong password, key, name or a missing right | fix the connection, clear the task |
| `SourceError`, `StoreError` | server unreachable or broke off | retried by itself; clear the task when the tries are used up |
| `StagingError` | disk full | free space, clear the task |
| `IntegrityError` | bytes, sums or counts differ | nothing was deleted; find out why, then clear `plan` |
| `ContendedError` | another run works on this partition | wait for it; a dead run's claim runs out by itself |
| `HeldError` | somebody stopped all deletion | clear the task when that hold is released; the message names it |
| `OutOfTimeError` | the time or the hours of `stop_after` are over | clear the task when the database may be worked on again |
| `BusyError` | the database was above the `delete_limits` for too long | retried by itself; see what keeps it busy |
| `IdentityError` | the store belongs to another database, or to none | give this database a bucket or prefix of its own; claim a new one with `airflow strongroom bucket claim` |
"""


def describe_dag(table: TableSettings) -> str:
    """The DAG's page: what it does, how to run it again, what each failure means."""
    level = table.compression.effective_level
    return _DAG.format(
        table=table.qualified_name,
        date_column=table.date_column,
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


def describe_step(task_id: str) -> str:
    """The documentation of one step."""
    return _STEPS[task_id]
