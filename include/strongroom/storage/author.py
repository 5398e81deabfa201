"""Who writes into a store's transparency log: a run of a DAG, or a person with a command, and the key that signs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strongroom.records import RunIdentity
from strongroom.tlog.notes import SignerKey


@dataclass(frozen=True)
class Author:
    """Whose entries they are.

    Attributes:
        sign_with: Finds the key; asked for at the first entry, so who only reads needs none.
        run: The Airflow run; None for a command.
        task_id: Of the run's task.
        try_number: Which try of the task it is, from 1.
        person: Who gave the command; None for a run.
    """

    sign_with: Callable[[], SignerKey]
    run: RunIdentity | None = None
    task_id: str | None = None
    try_number: int | None = None
    person: str | None = None
