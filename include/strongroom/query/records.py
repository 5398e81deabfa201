"""The records of a query: what was asked for, what was searched, and what became of it."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from strongroom.records import Column, CompressionType, Instant, PartFormat, Record, Salt, Sha256

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains", "begins with", "is null", "is not null"]
"""How a condition compares. All but `is null` compare nothing with NULL, as in SQL."""

WITHOUT_VALUE = frozenset({"is null", "is not null"})
"""Operators that take no value."""

MOST_VALUES = 1000
"""How many values an `in` may list."""


def _text(value: object) -> object:
    """A whole number may be written without quotes. Any other number might lose digits on its way through JSON."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _value(value: object) -> object:
    return tuple(map(_text, value)) if isinstance(value, (list, tuple)) else _text(value)


class Condition(Record):
    """One condition on a column. Values are texts as PostgreSQL would read them."""

    column: str
    operator: Operator
    value: Annotated[str | tuple[str, ...] | None, BeforeValidator(_value)] = Field(
        default=None, description="A text; for `in` a list of texts; nothing for `is null` and `is not null`."
    )

    @model_validator(mode="after")
    def _check_value(self) -> Condition:
        if self.operator in WITHOUT_VALUE:
            if self.value is not None:
                raise ValueError(f"`{self.operator}` takes no value")
        elif self.operator == "in":
            if not isinstance(self.value, tuple) or not 0 < len(self.value) <= MOST_VALUES:
                raise ValueError(f"`in` needs a list of 1 to {MOST_VALUES} values")
        elif not isinstance(self.value, str):
            raise ValueError(f"`{self.operator}` needs one value, written as a text")
        elif not self.value and self.operator in ("contains", "begins with"):
            raise ValueError(f"`{self.operator}` needs a text that is not empty")
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """All its values; none for `is null` and `is not null`."""
        return self.value if isinstance(self.value, tuple) else () if self.value is None else (self.value,)

    def __str__(self) -> str:
        """The condition without its value, which may be personal data: for logs and errors."""
        return f"{self.column} {self.operator}"


class QueryRequest(Record):
    """What somebody asks for: rows of ``table``, or only those in ``archives``. All conditions must hold."""

    table: str = Field(description="schema.table whose archives are searched.")
    archives: tuple[str, ...] = Field(default=(), description="Only these archives; none means all of the table.")
    since: Instant | None = Field(default=None, description="Only rows dated at or after this instant.")
    before: Instant | None = Field(default=None, description="Only rows dated before this instant.")
    conditions: tuple[Condition, ...] = ()
    columns: tuple[str, ...] = Field(default=(), description="What to show of each row; none means all columns.")
    limit: int = Field(default=1000, ge=1, description="The most rows to show.")
    who: str
    triggered_by: str | None = Field(default=None, description="Airflow's name of the user who started the run.")
    why: str = Field(min_length=1)


class ResultColumn(Record):
    """A column of the result, with its type as the newest archive has it."""

    name: str
    type: str


class SearchedArchive(Record):
    """An archive of which parts were searched."""

    archive_id: str
    parts: int = Field(description="How many of its parts were searched; parts outside the range are left alone.")
    scanned: int = Field(description="How many rows these parts have.")
    matched: int = Field(description="How many of them are in the result.")
    from_replica: tuple[int, ...] = Field(
        default=(),
        exclude_if=lambda parts: not parts,
        description="Numbers of the parts that were read from the second copy, because the first one was not sound.",
    )


Reason = Literal[
    "purged",
    "unverifiable",
    "corrupted",
    "missing",
    "frozen",
    "no_answer",
    "no_column",
    "other_type",
    "unreadable",
    "row_limit",
]
"""Why something in the range was not searched.

``purged``: destroyed when its term was over. ``unverifiable``: its manifest is not sound, or gone. ``corrupted``: the object is
not what was archived. ``missing``: the object is gone. ``frozen``: in a Glacier class. ``no_answer``: the store failed or
refused. ``no_column``: it has no column that a condition names. ``other_type``: a condition does not suit the type that the
column had then. ``unreadable``: the search stopped in it with an error of the reader. ``row_limit``: enough rows were found
before it.
"""

_NO_FAULT = frozenset({"purged", "row_limit"})


class NotSearched(Record):
    """An archive, or one part of it, that is in the range and was not searched."""

    archive_id: str
    part: int | None = Field(default=None, description="None means the whole archive.")
    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        where = self.archive_id if self.part is None else f"{self.archive_id} part {self.part}"
        return f"{where} was not searched: {self.reason}{f' ({self.detail})' if self.detail else ''}"


class QueryOutcome(Record):
    """What a query found. It names no value of a row; ``request`` has the values of the conditions.

    ``complete``: all that exists in the range was searched. ``limited``: there are more rows than the limit. ``incomplete``:
    something that should exist could not be searched.
    """

    outcome: Literal["complete", "limited", "incomplete"]
    query_id: str = Field(description="Names the result in staging.")
    run_id: str = Field(description="The Airflow run.")
    request: QueryRequest
    columns: tuple[ResultColumn, ...]
    rows: int
    searched: tuple[SearchedArchive, ...] = Field(description="Oldest window first, as the rows are.")
    not_searched: tuple[NotSearched, ...]
    bytes_read: int = Field(description="Bytes of the parts that were read from the store.")
    seconds: float
    searched_at: AwareDatetime
    expires_at: AwareDatetime = Field(description="From then on nobody can open the rows.")
    record_key: str = Field(description="The object in the store that records this query.")
    rows_sha256: Sha256 = Field(description="Of the file of rows in staging.")
    rows_bytes: int = Field(description="Of the same.")

    def sentence(self) -> str:
        """In a few words, without any value."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        archives = "1 archive" if len(self.searched) == 1 else f"{len(self.searched)} archives"
        found = f"{rows} from {archives} of {self.request.table}"
        left = f"; {len(self.not_searched)} archives or parts were not searched" if self.not_searched else ""
        copied = f"; {self.read_from_replica} parts were read from the replica" if self.read_from_replica else ""
        return f"{self.outcome}: {found}{left}{copied}"

    @property
    def read_from_replica(self) -> int:
        """How many parts were read from the second copy."""
        return sum(len(one.from_replica) for one in self.searched)


def judge(not_searched: tuple[NotSearched, ...], *, limited: bool) -> Literal["complete", "limited", "incomplete"]:
    """What a query is to be called, given what it did not search and whether it stopped at its limit."""
    if any(one.reason not in _NO_FAULT for one in not_searched):
        return "incomplete"
    return "limited" if limited else "complete"


class ResultRow(NamedTuple):
    """One row of a result: which archive it comes from, and PostgreSQL's text of each value, None for NULL."""

    archive_id: str
    values: tuple[str | None, ...]


class QueryRecord(Record):
    """What the store keeps of a query, from before anybody sees a row: who looked for what, why, and how much was found."""

    dag_id: str
    run_id: str
    request: QueryRequest
    outcome: Literal["complete", "limited", "incomplete"]
    rows: int
    searched: tuple[SearchedArchive, ...]
    not_searched: tuple[NotSearched, ...]
    bytes_read: int
    searched_at: AwareDatetime
    salt: Salt = None


class PartJob(Record):
    """What to search, and how."""

    archive_id: str
    format: PartFormat
    compression_type: CompressionType
    columns: tuple[Column, ...] = Field(description="All columns of the part.")
    conditions: tuple[Condition, ...] = Field(description="All must hold. They were checked before.")
    selected: tuple[str, ...] = Field(description="Names of the columns to show.")
    limit: int = Field(ge=0)
    memory_bytes: int = Field(gt=0)


class PartAnswer(Record):
    """How a search ended.

    ``done``: matching rows were written, up to the limit. ``memory``: it needed more memory than it may take. ``unreadable``:
    the part is not what its reader expects.
    """

    result: str = Field(pattern="^(done|memory|unreadable)$")
    matched: int = 0
    more: bool = Field(default=False, description="Whether at least one more row matches than the limit allows.")
    found: str = Field(default="", description="The kind of error; never its message, which may quote a row.")
