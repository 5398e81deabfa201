"""Fields that several forms share."""

from __future__ import annotations

from airflow.sdk import Param

_KEY = r"^[0-9]{4}-([0-9]{2}|[0-9]{2}-[0-9]{2}|W[0-9]{2})$"
_KEY_WORDS = "A month 2026-05, an ISO week 2026-W21 or a day 2026-05-31."


def optional(title: str, description: str, **schema: object) -> Param:
    """A parameter that may be left empty. The schema lets it be, or the form would open with an error."""
    return Param(None, type=["null", "string"], title=title, description_md=description, **schema)


def which_archives() -> dict[str, Param]:
    """Fields that narrow a table to a range of partitions, or name archives instead of a table."""
    return {
        "first_partition": optional("First partition", f"{_KEY_WORDS} Empty: the oldest.", pattern=_KEY),
        "last_partition": optional("Last partition", f"{_KEY_WORDS} It is included. Empty: the newest.", pattern=_KEY),
        "archives": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "pattern": r"^[^/]+\.[0-9]{4}-[0-9W-]+\.[0-9]{4,}$"},
            title="Archives",
            description_md="Instead of a table: archive ids, one on each line, such as `public.audit_events.2026-05.0001`.",
        ),
    }
