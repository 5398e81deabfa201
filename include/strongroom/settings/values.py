"""The kinds of values in the settings, each with its rule and the words that say what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from croniter import CroniterError, croniter  # type: ignore[import-untyped]
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from strongroom.calendar import Term
from strongroom.errors import ConfigurationError
from strongroom.settings.time_budget import TimeBudget
from strongroom.tlog.notes import COSIGNATURE, SIGNATURE, VerifierKey

NOTIFIERS = ("email", "slack", "webhook")
"""Notifiers with a short name; any other is the path of a class."""

STORAGE_CLASSES = (
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "SNOW",
    "EXPRESS_ONEZONE",
    "FSX_OPENZFS",
    "FSX_ONTAP",
    "AWS_BACKUP_WARM",
    "AWS_BACKUP_LOW_COST_WARM",
)
"""S3's own list, in its order."""

_FROZEN_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
"""Classes whose objects cannot be read for hours: no archive in them could be read back before the delete."""

_MAX_IDENTIFIER_BYTES = 63
"""PostgreSQL cuts longer names silently (NAMEDATALEN - 1)."""

_MAX_TIMEOUT_SECONDS = 2_147_483
"""PostgreSQL keeps timeouts as milliseconds in 32 bits."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BUCKET_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_BUCKET_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

_ANY_DAY = datetime(2025, 1, 1, tzinfo=timezone.utc)
"""The day on which terms and schedules are tried. Any day would do; this one makes P1Y as long as P365D."""


def fault(
    expected: str, *, found: str | None = None, at: str | None = None, mutual: bool = False
) -> PydanticCustomError:
    """Make the error of one value.

    Args:
        expected: What the value should be, in a few words.
        found: What to show instead of the value itself, if that could hold a secret.
        at: Key inside the value that is wrong, when the value is a section.
        mutual: The value is wrong only together with another one, so a default is at fault only in a table that has both.
    """
    context = {"expected": expected, "found": found, "at": at, "mutual": mutual}
    return PydanticCustomError("setting", "expected {expected}", context)


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise fault("a number, not true or false", found=str(value).lower())
    return value


def _check_notifier(name: str) -> str:
    if name not in NOTIFIERS and not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name):
        raise fault(f"one of {', '.join(NOTIFIERS)}, or the path of a class such as package.module.Notifier")
    return name


def _refuse_blank(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise fault("printable text that is not empty")
    return text


def _check_identifier(name: str) -> str:
    name_bytes = name.encode(errors="ignore")
    if not 0 < len(name_bytes) <= _MAX_IDENTIFIER_BYTES or name_bytes.decode() != name or "\0" in name:
        raise fault(f"a name of 1 to {_MAX_IDENTIFIER_BYTES} bytes of UTF-8 without NUL")
    return name


def _list_one(value: Any) -> Any:
    """Let one name stand for the list of it."""
    return [value] if isinstance(value, str) else value


def _refuse_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise fault("each name once")
    return names


def _parse_term(value: Any) -> Any:
    try:
        return value if isinstance(value, Term) else Term.parse(value)
    except ConfigurationError as error:
        raise fault(f"{error.expected}, counted in whole days, weeks, months or years") from None


def _parse_budget(value: Any) -> Any:
    try:
        return value if isinstance(value, TimeBudget) else TimeBudget.parse(str(value))
    except ConfigurationError as error:
        raise fault(str(error.expected)) from None


def _accept_all(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        raise fault("a whole number of rows above 0, or 'all'") from None


@lru_cache(maxsize=1024)
def _find_cron_fault(cron: str) -> str | None:
    """Say what is expected instead of a cron expression that is wrong; None when it is right.

    croniter's extras are refused: a random or hashed field (R, H) would move the schedule each time a file is parsed.
    """
    if len(cron.split()) != 5 or re.search(r"\b[hr]\b", cron, re.IGNORECASE):
        return "a cron expression of 5 fields: minute, hour, day, month, weekday"
    try:
        croniter(cron, _ANY_DAY).get_next()
    except (CroniterError, ValueError, KeyError, IndexError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"a cron expression that comes due ({reason})"
    return None


def _check_cron(cron: str) -> str:
    if expected := _find_cron_fault(cron):
        raise fault(expected)
    return cron


def _check_table(table: str) -> str:
    names = table.split(".")
    if len(names) > 2 or re.fullmatch(r'".*"', names[-1], re.DOTALL):
        raise fault("table or schema.table, each name as the catalogue has it, without quotes")
    for name in names:
        _check_identifier(name)
    return table


def check_bucket(bucket: str) -> str:
    """Apply S3's rules for the names of general purpose buckets."""
    if not _BUCKET.fullmatch(bucket):
        raise fault("3 to 63 lower-case letters, digits, dots and hyphens, a letter or digit at both ends")
    if ".." in bucket or re.fullmatch(r"[0-9]+(\.[0-9]+){3}", bucket):
        raise fault("a bucket name without two dots in a row, and not an IP address")
    if bucket.startswith(_BUCKET_PREFIXES) or bucket.endswith(_BUCKET_SUFFIXES):
        raise fault(f"a bucket name without S3's reserved {', '.join(_BUCKET_PREFIXES + _BUCKET_SUFFIXES)}")
    return bucket


def check_prefix(prefix: str) -> str:
    """Keep the prefix without the final slash, so that `a` and `a/` are the same place."""
    folders = prefix.removesuffix("/").split("/")
    if prefix and (not prefix.isprintable() or not all(folders) or {".", ".."} & set(folders)):
        raise fault("printable folder names with single slashes between them, or nothing")
    return prefix.removesuffix("/")


def _check_endpoint(url: str) -> str:
    expected = "an address such as https://s3.example.org:9000"
    if "@" in url:
        raise fault("an address without a user or password", found="one with an @")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise fault(expected) from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not url.isprintable():
        raise fault(expected)
    return url


def _check_storage_class(name: str) -> str:
    if name not in STORAGE_CLASSES:
        raise fault(f"one of {', '.join(STORAGE_CLASSES)}")
    if name in _FROZEN_CLASSES:
        raise fault("a class that can be read at once, as verify does (a lifecycle rule may move objects on later)")
    return name


def guess(name: str, known: Mapping[str, str] | Iterable[str]) -> str:
    """Suggest a known name that looks like the one given; empty if none does."""
    names = known if isinstance(known, Mapping) else {each: each for each in known}
    close = difflib.get_close_matches(name.casefold(), names, n=1)
    return f", did you mean {names[close[0]]}?" if close else ""


def length(term: Term) -> datetime:
    """Make terms comparable: the instants at which they end if all begin on the same day."""
    return term.after(_ANY_DAY)


def is_exposed(url: object) -> bool:
    """Whether an endpoint would be reached without TLS over a network. Something that is not an address is not exposed."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        host = parts.hostname if parts and parts.scheme == "http" else None
    except ValueError:
        return False
    return host is not None and not is_loopback(host)


Whole = Annotated[int, BeforeValidator(_refuse_bool)]
Count = Annotated[Whole, Field(ge=1)]
Retries = Annotated[Whole, Field(ge=0)]
TimeoutSeconds = Annotated[Whole, Field(ge=1, le=_MAX_TIMEOUT_SECONDS)]
NetworkSeconds = Annotated[
    float, BeforeValidator(_refuse_bool), Field(gt=0, le=_MAX_TIMEOUT_SECONDS, allow_inf_nan=False)
]
Allowed = Annotated[Whole, Field(ge=0)]
Percent = Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0, le=100, allow_inf_nan=False)]
Budget = Annotated[TimeBudget, BeforeValidator(_parse_budget)]
Price = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, le=1_000_000, allow_inf_nan=False)]
ProofRows = Annotated[Count | Literal["all"], WrapValidator(_accept_all)]
RetentionTerm = Annotated[Term, BeforeValidator(_parse_term)]


def _check_key(kind: int, owner: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text.startswith("PRIVATE"):
            raise fault("a public key; the private one belongs into a connection", found="a private key")
        try:
            key = VerifierKey.parse(text)
        except ConfigurationError:
            raise fault(f"the public key of {owner}, as `airflow strongroom log key` prints it") from None
        if key.kind != kind:
            raise fault(f"the key of {owner}", found=f"one of another kind: {text}")
        return str(key)

    return check


def _require_one_name(keys: tuple[str, ...]) -> tuple[str, ...]:
    names = {VerifierKey.parse(key).name for key in keys}
    if len(names) > 1:
        raise fault("keys of one name, because it is the name of the log", found=", ".join(sorted(names)))
    return keys


Cron = Annotated[str, AfterValidator(_check_cron)]
Text = Annotated[str, AfterValidator(_refuse_blank)]
Identifier = Annotated[str, AfterValidator(_check_identifier)]
NotifierName = Annotated[str, AfterValidator(_check_notifier)]
Identifiers = Annotated[tuple[Identifier, ...], BeforeValidator(_list_one), AfterValidator(_refuse_repeats)]
TableName = Annotated[str, AfterValidator(_check_table)]
TableNames = Annotated[tuple[TableName, ...], BeforeValidator(_list_one), AfterValidator(_refuse_repeats)]
LogKeys = Annotated[
    tuple[Annotated[str, AfterValidator(_check_key(SIGNATURE, "a log"))], ...],
    BeforeValidator(_list_one),
    AfterValidator(_refuse_repeats),
    AfterValidator(_require_one_name),
]
WitnessKeys = Annotated[
    tuple[Annotated[str, AfterValidator(_check_key(COSIGNATURE, "a witness"))], ...],
    BeforeValidator(_list_one),
    AfterValidator(_refuse_repeats),
]
BucketName = Annotated[str, AfterValidator(check_bucket)]
Prefix = Annotated[str, AfterValidator(check_prefix)]
EndpointUrl = Annotated[str, AfterValidator(_check_endpoint)]
StorageClass = Annotated[str, AfterValidator(_check_storage_class)]


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine; connections without TLS are allowed to nothing else."""
    if host is None:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
