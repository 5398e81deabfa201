"""Mutants that no test can tell from the original, each with the reason."""

from __future__ import annotations

_SPEED = "only the plan, and so the speed, of the statements changes"
_TUNING = "a number that tunes and decides nothing"

EQUIVALENT: dict[str, str] = {
    "delete_progress.module: 10001 for 10000 #1": _TUNING,
    "delete_progress.DeleteProgress.with_batch: 4 for 3 #1": "digits of a duration",
    **dict.fromkeys(
        (
            "pace.Pace.__init__: without `self._waiting = 0` #1",
            "pace.Pace.__init__: 1 for 0 #1",
            "pace.Pace.__init__: 1 for 0 #2",
        ),
        "each batch sets it before its commit, and only then is it read",
    ),
    **dict.fromkeys(
        (
            "pace.Pace.before_commit: Gt in `time.monotonic() >= self._next_look` #1",
            "pace.Pace._learn: GtE in `committed > limits.commit_seconds` #1",
            "pace.Pace._wait_for_turn: LtE in `time.monotonic() < self._next_look` #1",
        ),
        "an instant that is met to the nanosecond may count to either side",
    ),
    **dict.fromkeys(
        (
            "archived_rows.module: 2001 for 2000 #1",
            "archived_rows.module: 2 for 1 #1",
            "archived_rows.module: 23 for 22 #1",
            "blocks.module: 4001 for 4000 #1",
            "blocks.module: 3 for 2 #1",
            "blocks.module: 21 for 20 #1",
        ),
        _TUNING,
    ),
    "delete_range.delete_range: without `len(rows) == wanted.block.rows` in a condition #1": (
        "the digest is of all rows; their number only saves making it"
    ),
    **dict.fromkeys(
        (
            "delete_range.delete_range: without `rows.clear()` #1",
            "delete_range.delete_range: False for `len(rows) > wanted.block.rows` #1",
        ),
        "only how many rows of others are kept in memory changes",
    ),
    "block_ranges.date_of: 2 for 1 #1": "the fields behind the date are split too, and not looked at",
    "delete._ranges: without `not part.ordered` in a condition #1": "no block of a part in no order has an end",
    "key_batch.join_by_index: without `set_locally(connection, BY_INDEX)` #1": _SPEED,
    "delete._Deleting._try: Add in `time.monotonic() - on_rows` #1": "only the size of the next batch changes",
    "questions.Questions.execute: without `()` in a condition #1": "every question has columns",
    "delete_batch.BatchDelete.delete: True for `deleted < len(batch)` #1": "looks for rows that stayed where none did",
    "delete_batch.BatchDelete.delete: LtE in `deleted < len(batch)` #1": "looks for rows that stayed where none did",
    "delete_batch.key_delete: without `same_key(table.shape, 'b')` in a list #1": (
        "a digest is of the whole row, its key included; the key is there for the index"
    ),
    **{
        f"guard.module: `LEFT JOIN for JOIN` in SQL #{number}": why
        for number, why in (
            (1, "the join behind it wants the schema of the function, and none has one"),
            (3, "every trigger is of a table"),
            (4, "every table is in a schema"),
        )
    },
    "guard.prepare_guards: `nothing for IF NOT EXISTS` in SQL #1": "that it is there already is no error either",
    "guard._is_made: `LEFT JOIN for JOIN` in SQL #1": "every function is in a schema",
    "guard.set_guard: True for `present is not None` #1": "to drop triggers that are not there does nothing",
    **dict.fromkeys(
        (
            "equal_blocks.module: 2 for 1 #1",
            "equal_blocks.module: 23 for 22 #1",
            "equal_blocks.equal_blocks: 1 for 0 #2",
        ),
        _TUNING,
    ),
    "equal_blocks._texts: `OR for AND` in SQL #1": "rows of no block are read too, and belong to none",
    "compare.module: 10001 for 10000 #1": _TUNING,
    "compare.compare_with_archive: without `with transaction()` #1": "a COPY is a transaction itself; only its plan changes",
    "compare.compare_with_archive: without `archived.keys.of(part)` #1": "they are read a moment later, in the transaction",
    "compare.compare_with_archive: without `connection.execute('SET LOCAL enable_seqscan = on')` #1": _SPEED,
    "compare.compare_with_archive: without `with transaction()` #3": "it keeps that setting to one statement",
    "compare._query: `LEFT JOIN for JOIN` in SQL #1": "no archived row has the digest of a row of NULLs",
    "warm_rows.module: 10001 for 10000 #1": _TUNING,
    **dict.fromkeys(
        (
            "warm_rows.WarmRows.count: without `self._index(one)` #1",
            "warm_rows.WarmRows._index: without `self._connection.execute(sql.SQL('CREATE INDEX ON {} ({})').format(one.staged, keys))` #1",
            "warm_rows.WarmRows._index: without `self._connection.execute(sql.SQL('ANALYZE {}').format(one.staged))` #1",
        ),
        _SPEED,
    ),
    "warm_rows.WarmRows._choose: without `not self._month.covers(block.window)` in a condition #1": (
        "a block that is not all in the month differs from its rows, so they are looked up just the same"
    ),
    **dict.fromkeys(
        ("warm_rows.WarmRows._choose: 2 for 1 #1", "warm_rows.WarmRows._choose: 2 for 1 #2"),
        "a window further off is looked at too, and overlaps nothing that the nearest one does not",
    ),
    "warm_rows._is_archived: `OR for AND` in SQL #1": (
        "a digest is of the whole row, its key included; the key is there for the index"
    ),
    **dict.fromkeys(
        (
            "policy.PurgePolicies.of: True for `name not in self._policies` #1",
            "policy.PurgePolicies._past_of: True for `name not in self._past` #1",
        ),
        "what was found is only found once more",
    ),
    "blocks._most: Lt in `sum(map(len, rows[:most_rows])) <= most_bytes` #1": "just as many bytes are then counted one by one",
    "drop_detached._Dropping._judge: without `evidence is None` in a condition #1": "without evidence nothing is known",
    "drop_detached._Dropping._changed: without `found is None` in a condition #1": "None is not its name either",
    **dict.fromkeys(
        (
            "drop_detached._Dropping._drop_proved: without `connection.isolation_level = IsolationLevel.READ_COMMITTED` #1",
            "drop_detached._Dropping._drop_proved: REPEATABLE_READ for READ_COMMITTED #1",
        ),
        "the first snapshot is taken under the lock",
    ),
}
