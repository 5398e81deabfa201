"""Run a transaction again when another session was in its way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import errors

_Result = TypeVar("_Result")

TRIES = 5
"""How often a transaction is tried at most."""

TRANSIENT: tuple[type[psycopg.Error], ...] = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
)
"""Errors that end with the transaction of somebody else."""


def retry_transient(transaction: Callable[[], _Result], *, also: tuple[type[psycopg.Error], ...] = ()) -> _Result:
    """Run a whole transaction, at most :data:`TRIES` times, with a longer wait after each try.

    Args:
        transaction: Begins a transaction and commits it. An error must roll it back.
        also: Further errors that may not occur again.

    Raises:
        psycopg.Error: The last try failed, or an error that is not transient.
    """
    retried = (*TRANSIENT, *also)
    tries = 0
    while True:
        tries += 1
        try:
            return transaction()
        except retried:
            if tries == TRIES:
                raise
            time.sleep(0.2 * tries)
