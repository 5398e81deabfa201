"""Measure work as a number of calls, which is the same on every machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any


def count_calls(work: Callable[[], object]) -> int:
    """Do something, and count the functions that this thread calls meanwhile, including built-in ones."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def count_requests(work: Callable[[], object], *clients: Any) -> Counter[str]:
    """Do something, and count the requests that S3 clients make meanwhile, by operation."""
    made: Counter[str] = Counter()

    def count(model: Any, **_: object) -> None:
        made[model.name] += 1

    for client in clients:
        client.meta.events.register("before-call.s3", count)
    try:
        work()
    finally:
        for client in clients:
            client.meta.events.unregister("before-call.s3", count)
    return made
