"""What the failure of each step means for the rows, in a sentence that is true whatever the step had done before it failed."""

from __future__ import annotations

from collections.abc import Mapping

UNTOUCHED = "No row of a table was touched."
_NOT_DELETED = "This step deletes no row: every row is where it was."
_NOT_LOADED = "This step loads nothing, and no row of a table was touched."
_NOT_DESTROYED = "This step destroys nothing."
_NOT_REMOVED = "This step removes no row."

_ARCHIVE = {
    "detach": "Partitions that were detached before the failure are still in the database. Nothing was dropped.",
    "delete": "Each row that was deleted before the failure had been read back from the archive and was equal to it. All others are in the table.",
    "report": "The steps before it did their work: each row that was deleted is in an archive that was read back.",
    **dict.fromkeys(("plan", "extract_to_staging", "compress", "checksum", "upload", "verify", "seal"), _NOT_DELETED),
}

_OTHERS: Mapping[str, Mapping[str, str]] = {
    "restore_archive": {
        "restore": "Rows that were loaded before the failure stay. Nothing was overwritten or deleted.",
        "report": "Rows that were loaded stay. Nothing was overwritten or deleted.",
        **dict.fromkeys(("locate", "thaw"), _NOT_LOADED),
    },
    "retention_purge": {
        "purge": "Archives whose term is over may have been destroyed before the failure. Their intent is on record, and the next run finishes it. "
        + UNTOUCHED,
        "sweep": "Leftovers of broken runs may have been removed before the failure. No sealed archive was touched.",
        "warm": "Partitions of warm tables may have been dropped before the failure, each after all of its rows were found in a sound archive.",
        "detached": "Detached partitions may have been dropped before the failure, each after all of its rows were found in a sound archive.",
        **dict.fromkeys(("decide", "approve", "report"), _NOT_DESTROYED),
    },
    "subject_erasure": {
        "erase": "Rows of the person may have been removed before the failure, after the approval. Clear the task, and it continues.",
        "remove": "Superseded archives may have been destroyed before the failure, each after its successor was read back. Clear the task, and it continues.",
        **dict.fromkeys(("find", "approve", "cool_off", "close"), _NOT_REMOVED),
    },
}


def fate_of_rows(dag_id: str, step: str) -> str:
    """The sentence for one step of one of the package's DAGs.

    Args:
        dag_id: The DAG.
        step: The task without its group.
    """
    if dag_id.startswith("archive__"):
        return _ARCHIVE.get(step, "")
    return _OTHERS[dag_id].get(step, "") if dag_id in _OTHERS else UNTOUCHED
