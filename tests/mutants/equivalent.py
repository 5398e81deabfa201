"""Mutants that no test can tell from the original, each with the reason."""

from __future__ import annotations

_SPEED = "only the plan, and so the speed, of the statements changes"
_TUNING = "a number that tunes and decides nothing"

EQUIVALENT: dict[str, str] = {
    "delete.module: 10001 for 10000 #1": _TUNING,
    "delete.module: 6 for 5 #1": _TUNING,
    "delete.delete_part: 3 for 2 #1": "blanks of the JSON's indentation",
    "delete._advance: 4 for 3 #1": "digits of a duration",
    **{
        f"batch.join_by_index: without `connection.execute('SET LOCAL {setting} = off')` #1": _SPEED
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
    },
    **{f"batch.join_by_index: `= on for = off` in SQL #{number}": _SPEED for number in (1, 2, 3)},
    "delete._try_batch: True for `deleted < len(batch)` #1": "looks for rows that stayed where none did",
    "delete._try_batch: LtE in `deleted < len(batch)` #1": "looks for rows that stayed where none did",
    "delete._delete_statement: without `same_key(table.shape, 'b')` in a list #1": (
        "a digest is of the whole row, its key included; the key is there for the index"
    ),
    "verify.restore_keys: without `require_equal(part, reading.result())` #1": (
        "the keys that were made are compared with their own sum right after it"
    ),
}
