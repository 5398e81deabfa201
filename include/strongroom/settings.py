"""What to archive, how long to keep it and where: one frozen, checked record for each table.

Three sources, the nearer one wins: a table's own section, the defaults at the top of the file, the defaults in this
module. The environment replaces single values of the file, at the top or in a table's section. Whatever is wrong in the
file and in the environment is told in one error. Nothing here opens a connection, and nothing secret is kept here.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from strongroom.errors import ConfigurationError
from strongroom.partitions import Frequency, Term
from strongroom.setting_values import (
    BucketName,
    Count,
    Cron,
    EndpointUrl,
    Identifier,
    Identifiers,
    NetworkSeconds,
    Prefix,
    Price,
    ProofRows,
    RetentionTerm,
    Retries,
    StorageClass,
    TableName,
    Text,
    TimeoutSeconds,
    Whole,
    fault,
    is_exposed,
    length,
)
from strongroom.strict_yaml import YamlError, parse_yaml

DEFAULT_FILE = Path(__file__).resolve().parents[1] / "config" / "archive.yaml"
FILE_VARIABLE = "STRONGROOM_CONFIG"
PREFIX = "STRONGROOM__"

LEVELS: Mapping[str, tuple[int, int, int]] = {"zstd": (1, 22, 3), "gzip": (1, 9, 6)}
"""Lowest, highest and default level of each type that has levels."""

_SECRET = re.compile(
    r"pass(word|wd|phrase)|pwd|secret|token|credential|(access|private|api|account)_?key|dsn|connection_?(string|ur[il])",
    re.IGNORECASE,
)

Key = tuple[str | int, ...]
"""Where a value stands: ("tables", "audit_events", "compression", "level")."""


# ----------------------------------------------------------------------------------------------------------- sections


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Compression(_Frozen):
    """How the bytes of a part are made smaller."""

    type: Literal["zstd", "gzip", "none"] = "zstd"
    level: Whole | None = None
    allow_fallback: bool = True

    @field_validator("level")
    @classmethod
    def _check_level(cls, level: int | None, info: ValidationInfo) -> int | None:
        kind = info.data.get("type")
        if level is None or kind is None:
            return level
        if kind not in LEVELS:
            raise fault(f"no level for {kind}", mutual=True)
        lowest, highest, _ = LEVELS[kind]
        if not lowest <= level <= highest:
            raise fault(f"{lowest} to {highest} for {kind}", mutual=True)
        return level

    @property
    def effective_level(self) -> int | None:
        """The level that is used: the given one, or the type's default; None without compression."""
        if self.level is None and self.type in LEVELS:
            return LEVELS[self.type][2]
        return self.level


class StoreSettings(_Frozen):
    """Where archives lie, and how S3 is spoken to. Who may speak to it is told by an Airflow connection."""

    bucket: BucketName = "strongroom-archive"
    prefix: Prefix = ""
    region: Text = "us-east-1"
    endpoint_url: EndpointUrl | None = None
    storage_class: StorageClass = "STANDARD"
    sse: Literal["AES256", "aws:kms", "none"] = "AES256"
    kms_key_id: Text | None = Field(default=None, validate_default=True)
    create_bucket: bool = False
    max_connections: Count = 10
    connect_timeout_seconds: NetworkSeconds = 10
    read_timeout_seconds: NetworkSeconds = 60
    max_attempts: Count = 3

    @field_validator("kms_key_id")
    @classmethod
    def _check_kms_key(cls, key_id: str | None, info: ValidationInfo) -> str | None:
        sse = info.data.get("sse")
        if sse == "aws:kms" and key_id is None:
            raise fault("the id or ARN of a key, because sse is aws:kms", mutual=True)
        if sse not in ("aws:kms", None) and key_id is not None:
            raise fault(f"no key, because sse is {sse}", mutual=True)
        return key_id


class Purge(_Frozen):
    """How archives whose term is over are destroyed, and when what broken runs left is swept away."""

    require_approval: bool = False
    approval_timeout_seconds: TimeoutSeconds = 72_000
    sweep_after_days: Count = 7


class Prices(_Frozen):
    """What a gibibyte costs in US dollars a month, where rows live hot or warm and in each storage class of S3."""

    hot: Price = 0.23
    warm: Price = 0.23
    standard: Price = 0.023
    standard_ia: Price = 0.0125
    onezone_ia: Price = 0.01
    intelligent_tiering: Price = 0.023
    glacier_ir: Price = 0.004
    glacier: Price = 0.0036
    deep_archive: Price = 0.00099

    def of(self, storage_class: str) -> float:
        """The price of a storage class; one without a price of its own costs as much as `STANDARD`."""
        price: float = getattr(self, storage_class.lower(), self.standard)
        return price


class Transitions(_Frozen):
    """How long after its upload S3 moves a part on into each storage class; None means never.

    `airflow strongroom bucket apply` makes lifecycle rules of it.
    """

    standard_ia: RetentionTerm | None = None
    onezone_ia: RetentionTerm | None = None
    intelligent_tiering: RetentionTerm | None = None
    glacier_ir: RetentionTerm | None = None
    glacier: RetentionTerm | None = None
    deep_archive: RetentionTerm | None = None

    @field_validator("*")
    @classmethod
    def _check_order(cls, term: Term | None, info: ValidationInfo) -> Term | None:
        """S3 only moves objects down its list of classes, and keeps them 30 days before the infrequent ones."""
        if term is None:
            return term
        if info.field_name in ("standard_ia", "onezone_ia") and length(term) < length(Term(days=30)):
            raise fault("30 days or longer, as S3 asks for this class")
        for name, earlier in info.data.items():
            if earlier is not None and length(term) <= length(earlier):
                raise fault(f"longer than {name} ({earlier})", found=str(term), mutual=True)
        return term

    @property
    def days(self) -> dict[str, int]:
        """Days from the upload by storage class, in the order in which a part comes into them."""
        terms = ((name.upper(), getattr(self, name)) for name in type(self).model_fields)
        return {name: (length(term) - length(Term(days=1))).days + 1 for name, term in terms if term is not None}


class TableSettings(_Frozen):
    """Everything that one table's DAG needs to know.

    Each field but `table` may stand in the table's section, or at the top of the file for all tables.
    """

    table: TableName
    date_column: Identifier
    primary_key: Annotated[Identifiers, Field(min_length=1)] | None = None
    frequency: Frequency = Frequency.MONTHLY
    cron: Cron = "0 2 1 * *"
    hot_retention: RetentionTerm = Term.parse("P90D")
    warm: bool = False
    warm_retention: RetentionTerm = Field(default=Term.parse("P365D"), validate_default=True)
    cold_retention: RetentionTerm = Field(default=Term.parse("P7Y"), validate_default=True)
    legal_basis: Text
    compression: Compression = Compression()
    part_rows: Count = 500_000
    part_bytes: Count = 536_870_912
    delete_batch_rows: Count = 10_000
    max_parallel_parts: Count = 4
    proof_rows: ProofRows = 1000
    accepted_delete_triggers: Identifiers = ()
    staging: str = Field(default="strongroom-staging", validate_default=True)
    claim_ttl_seconds: Count = 3600
    statement_timeout_seconds: TimeoutSeconds = 3600
    lock_timeout_seconds: TimeoutSeconds = 30
    connect_timeout_seconds: TimeoutSeconds = 10
    tls_required: bool = True
    store: StoreSettings = StoreSettings()
    purge: Purge = Purge()
    prices: Prices = Prices()
    transitions: Transitions = Transitions()
    source_conn_id: Text = "strongroom_source"
    store_conn_id: Text = "strongroom_store"
    purge_conn_id: Text = "strongroom_purge"
    restore_conn_id: Text = "strongroom_restore"
    owner: Text = "strongroom"
    retries: Retries = 3
    pool: Text = "default_pool"

    @field_validator("warm_retention", "cold_retention")
    @classmethod
    def _check_order(cls, term: Term, info: ValidationInfo) -> Term:
        """Each tier must end later than the one before it, or its rows would expire on arrival."""
        warm = info.data.get("warm", False)
        if info.field_name == "warm_retention" and not warm:
            return term
        earlier = ["hot_retention", "warm_retention"] if warm else ["hot_retention"]
        for name in earlier:
            if name in info.data and name != info.field_name and length(term) <= length(info.data[name]):
                raise fault(f"longer than {name} ({info.data[name]})", found=str(term), mutual=True)
        return term

    @field_validator("staging")
    @classmethod
    def _make_absolute(cls, staging: str, info: ValidationInfo) -> str:
        """Read a relative folder from AIRFLOW_HOME, which all processes of one machine share."""
        if not staging.strip() or not staging.isprintable() or "://" in staging:
            raise fault("a folder that every worker reaches under the same name")
        environ = (info.context or {}).get("environ", os.environ)
        home = Path(environ.get("AIRFLOW_HOME") or "~/airflow")
        try:
            return str((home.expanduser() / Path(staging).expanduser()).absolute())
        except RuntimeError:
            raise fault("a folder of a user that this machine knows") from None

    @field_validator("store", mode="wrap")
    @classmethod
    def _refuse_plain_http(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> StoreSettings:
        """Ask for TLS beyond this machine, and tell that together with whatever else is wrong with the store."""
        url = value.get("endpoint_url") if isinstance(value, dict) else getattr(value, "endpoint_url", None)
        exposed = info.data.get("tls_required", False) and is_exposed(url)
        try:
            store: StoreSettings = handler(value)
        except ValidationError as error:
            raise (_add_fault(error, _plain_http_fault()) if exposed else error) from None
        if exposed:
            raise _plain_http_fault()
        return store

    @property
    def schema_name(self) -> str:
        """The schema alone: `public` where none is written."""
        return self.table.rpartition(".")[0] or "public"

    @property
    def table_name(self) -> str:
        """The table alone, without its schema."""
        return self.table.rpartition(".")[2]

    @property
    def qualified_name(self) -> str:
        """`schema.table`, with the schema in any case."""
        return f"{self.schema_name}.{self.table_name}"

    @property
    def slug(self) -> str:
        """What stands for the table in a DAG id and in the name of a variable."""
        return _make_slug(self.table)


class Settings(_Frozen):
    """Every configured table, under the name that the file gives it, in the file's order."""

    tables: Mapping[str, TableSettings]

    @field_validator("tables")
    @classmethod
    def _refuse_twins(cls, tables: Mapping[str, TableSettings]) -> Mapping[str, TableSettings]:
        for _, expected in _find_twins(tables):
            raise fault(expected)
        return tables

    def table(self, name: str) -> TableSettings:
        """Find one table by its name in the file, its qualified name or its slug, in any case.

        Raises:
            ConfigurationError: No such table; names those that are configured.
        """
        for known, settings in self.tables.items():
            if name.casefold() in (known.casefold(), settings.qualified_name.casefold(), settings.slug.casefold()):
                return settings
        raise ConfigurationError(
            f"table {name!r} is not configured{_guess(name, list(self.tables))}",
            expected=f"one of {', '.join(self.tables)}",
            found=name,
            hint="Nothing was read or changed; name a configured table, or add it under `tables:` in archive.yaml.",
        )


def _make_slug(table: str) -> str:
    return re.sub(r"\W", "_", table.removeprefix("public.").replace(".", "__"))


def _find_twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Find names that DAG ids and variables cannot tell from an earlier one, each with what is expected instead."""
    seen: dict[str, str] = {}
    twins = []
    for name in names:
        slug = _make_slug(name)
        first = seen.setdefault(slug.casefold(), name)
        if first != name:
            twins.append(
                (name, f"a table that differs from {first!r} in the slug {slug!r}, which names DAG and variables")
            )
    return twins


def _plain_http_fault() -> PydanticCustomError:
    expected = "https, or http on this machine's loopback (tls_required: false lifts this)"
    return fault(expected, found="http to another host", at="endpoint_url", mutual=True)


def _add_fault(error: ValidationError, another: PydanticCustomError) -> ValidationError:
    lines = [
        InitErrorDetails(
            type=PydanticCustomError(each["type"], each["msg"], each.get("ctx")),
            loc=each["loc"],
            input=each["input"],
        )
        for each in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(
        error.title, [*lines, InitErrorDetails(type=another, loc=(), input=None)]
    )


# ------------------------------------------------------------------------------------------------------------ loading


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file and the environment, and check every setting of every table.

    Args:
        path: The file; None takes the one that STRONGROOM_CONFIG names, or `include/config/archive.yaml`.
        environ: Variables; None takes the process's own. A relative staging folder is read from its AIRFLOW_HOME.

    Raises:
        ConfigurationError: Tells all faults of file and environment together, each with its key or variable.
    """
    environ = os.environ if environ is None else environ
    draft = _Draft(_find_file(path, environ))
    draft.read_file()
    draft.read_environment(environ)
    tables = draft.check({"environ": environ})
    draft.raise_faults()
    return Settings(tables=tables)


def _find_file(path: Path | None, environ: Mapping[str, str]) -> Path:
    named = path or environ.get(FILE_VARIABLE)
    try:
        return Path(named).expanduser() if named else DEFAULT_FILE
    except RuntimeError:
        return Path(str(named))


class _Draft:
    """A document on its way to settings, and what is wrong with it so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document: dict[str, Any] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.is_read = False
        self._variables: dict[Key, str] = {}
        self._faults: dict[str, list[str]] = defaultdict(list)
        """Each line of the error, and the tables that inherit the fault from a default (none: it is their own)."""

    # -- sources

    def read_file(self) -> None:
        """Take the file apart into defaults and tables."""
        try:
            document, faults = parse_yaml(self.path.read_bytes().decode("utf-8-sig"))
        except OSError as error:
            return self._report_file(f"cannot be read: {error.strerror or error}")
        except UnicodeDecodeError as error:
            return self._report_file(f"is not UTF-8 text, byte {error.start} is wrong")
        except (YamlError, ValueError) as error:
            return self._report_file(str(error))
        for sentence in faults:
            self._report_file(sentence)
        if not isinstance(document, dict):
            return self._report_file(f"expected a mapping of settings, found {_show(document)}")
        self.is_read = True
        tables = document.pop("tables", None)
        self.document = _without_empty_sections(document)
        if not isinstance(tables, dict) or not tables:
            return self._report(("tables",), f"expected at least one table, found {_show(tables)}")
        for name, section in tables.items():
            if isinstance(section, dict | None):
                self.tables[name] = _without_empty_sections(section or {})
            else:
                self._report(("tables", name), f"expected a mapping of settings, found {_show(section)}")
        return None

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """Replace the values that variables name, shorter keys first, so that a section does not undo its own parts."""
        names = [name for name in environ if name.startswith(PREFIX)]
        for name in sorted(names, key=lambda name: (name.count("__"), name)):
            self._read_variable(name, environ[name])

    def _read_variable(self, variable: str, text: str) -> None:
        rest = variable.removeprefix(PREFIX).casefold()
        section: dict[str, Any] = self.document
        base: Key = ()
        if rest.split("__")[0] == "tables":
            rest = rest.removeprefix("tables").removeprefix("__")
            table = self._match_table(rest)
            if table is None:
                if self.is_read:
                    expected = "STRONGROOM__TABLES__<TABLE>__<SETTING> with a table of the file"
                    self._add(variable, f"expected {expected}{_guess(rest.split('__')[0], list(self.tables))}")
                return None
            section, base = self.tables[table], ("tables", table)
            rest = rest[len(_make_slug(table)) + 2 :]
        key = tuple(rest.split("__"))
        value: Any = _OneVariable(rest, text)()
        for part in key:
            if not isinstance(value, dict) or part not in value:
                return self._add(variable, _describe_misplaced(key))
            value = value[part]
        place = (*base, *key)
        if self._variables.setdefault(place, variable) != variable:
            return self._add(variable, f"expected one variable for this setting, found {self._variables[place]} too")
        _put(section, key, value)
        return None

    def _match_table(self, rest: str) -> str | None:
        """Find the table whose slug, in any case, begins a variable's rest; the longest, as a slug may hold `__`."""
        found = [name for name in self.tables if rest.startswith(f"{_make_slug(name).casefold()}__")]
        return max(found, key=lambda name: len(_make_slug(name)), default=None)

    # -- checking

    def check(self, context: dict[str, Any]) -> dict[str, TableSettings]:
        """Check the defaults by themselves, then every table with the defaults it inherits."""
        self._check_defaults(context)
        for name, expected in _find_twins(self.tables):
            self._report(("tables", name), f"expected {expected}")
        checked = {}
        for name, section in self.tables.items():
            merged = _merge(self.document, section)
            if "table" in section:
                self._report(("tables", name, "table"), _describe_unknown(("table",)))
            try:
                checked[name] = TableSettings.model_validate({**merged, "table": name}, context=context)
            except ValidationError as error:
                for finding in _list_findings(error):
                    self._report_in_table(name, finding)
        return checked

    def _check_defaults(self, context: dict[str, Any]) -> None:
        """Tell what is wrong with a default whoever inherits it."""
        if "table" in self.document:
            self._report(("table",), _describe_unknown(("table",)))
        required = {"date_column": "date_column", "legal_basis": "legal_basis"}
        try:
            TableSettings.model_validate({**required, **self.document, "table": "table"}, context=context)
        except ValidationError as error:
            for finding in _list_findings(error):
                if _holds(self.document, finding.key) and not (finding.mutual and self.tables):
                    self._report(finding.key, finding.text)

    def _report_in_table(self, name: str, finding: _Finding) -> None:
        if finding.key == ("table",):
            self._report(("tables", name), finding.text)
        elif _holds(self.document, finding.key) and not _holds(self.tables[name], finding.key):
            self._report(finding.key, finding.text, heir=name)
        else:
            self._report(("tables", name, *finding.key), finding.text)

    # -- telling

    def _report_file(self, text: str) -> None:
        self._add(self.path.name, text)

    def _report(self, key: Key, text: str, heir: str | None = None) -> None:
        for depth in range(len(key), 0, -1):
            if variable := self._variables.get(key[:depth]):
                inside = _show_key(key[depth:])
                return self._add(f"{variable}: {inside}" if inside else variable, text, heir)
        return self._add(f"{self.path.name}: {_show_key(key)}", text, heir)

    def _add(self, where: str, text: str, heir: str | None = None) -> None:
        line = f"{where}: {text}"
        if heir is None:
            self._faults[line] = []
        elif self._faults.get(line) != []:
            self._faults[line].append(heir)

    def raise_faults(self) -> None:
        if not self._faults:
            return
        lines = "".join(f"\n  {line}{_name_heirs(heirs, len(self.tables))}" for line, heirs in self._faults.items())
        count = len(self._faults)
        raise ConfigurationError(
            f"{count} {'fault' if count == 1 else 'faults'} in the settings of {self.path}{lines}",
            hint="Nothing was started and no row was touched; correct these lines (all settings: docs/configuration.md).",
        )


class _Variables(TableSettings, BaseSettings):  # type: ignore[misc]  # one kind of configuration is both
    """The settings as pydantic-settings wants them described; never made."""


class _OneVariable(EnvSettingsSource):
    """pydantic-settings' reading of a single variable, which may not exist as such in this process's environment.

    Lists and sections are JSON, `null` is None. Text that is no JSON stays text, for the model to judge.
    """

    def __init__(self, name: str, text: str) -> None:
        self._variable = {name: text}
        super().__init__(_Variables, env_prefix="", env_nested_delimiter="__", env_parse_none_str="null")

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self._variable, parse_none_str=self.env_parse_none_str)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


@dataclass(frozen=True)
class _Finding:
    """What pydantic found wrong with one value, in the words of this module."""

    key: Key
    text: str
    mutual: bool


_SECTIONS: Mapping[str, type[_Frozen]] = {
    "compression": Compression,
    "store": StoreSettings,
    "purge": Purge,
    "prices": Prices,
    "transitions": Transitions,
}
_REQUIRED = {
    "date_column": "the column that dates a row",
    "legal_basis": "the law or contract that sets the term",
}
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "{le:,} or less",
    "literal_error": "{expected}",
    "model_type": "a mapping of settings",
    "setting": "{expected}",
    "string_type": "text",
    "too_short": "at least one name",
    "tuple_type": "a list",
}


def _list_findings(error: ValidationError) -> list[_Finding]:
    return [_tell(each) for each in error.errors(include_url=False)]


def _tell(error: ErrorDetails) -> _Finding:
    kind, ctx = error["type"], error.get("ctx", {})
    key = (*error["loc"], ctx["at"]) if ctx.get("at") else error["loc"]
    if kind == "extra_forbidden":
        text = _describe_unknown(key)
    elif kind == "missing":
        text = f"expected {_REQUIRED[str(key[-1])]}, here or as a default at the top, found nothing"
    else:
        expected = _EXPECTED[kind].format(**ctx) if kind in _EXPECTED else error["msg"]
        value = error["input"]
        found = ctx.get("found") or (_describe_kind(value) if kind == "model_type" else _show(value))
        text = f"expected {expected}, found {found}"
    return _Finding(key, text, mutual=bool(ctx.get("mutual")))


def _describe_unknown(key: Key) -> str:
    """Say that a key does not exist; never shows its value, which may be a secret."""
    name = str(key[-1])
    if _SECRET.search(name):
        connections = "source_conn_id, store_conn_id or purge_conn_id"
        return f"secrets are not kept in settings, put it into the Airflow connection that {connections} names"
    section = _SECTIONS.get(str(key[0])) if len(key) > 1 else None
    if section is not None:
        return f"unknown key{_guess(name, list(section.model_fields))}"
    elsewhere = {field: f"{part}.{field}" for part, model in _SECTIONS.items() for field in model.model_fields}
    known = [field for field in TableSettings.model_fields if field != "table"]
    return f"unknown key{_guess(name, known) or _guess(name, elsewhere)}"


def _describe_misplaced(key: Key) -> str:
    """Say what is wrong with a variable that begins with no setting, or goes on after one that has no parts."""
    if key[0] in TableSettings.model_fields:
        return f"expected no further part after {str(key[0]).upper()}"
    return _describe_unknown(key[:1])


def _guess(name: str, known: Mapping[str, str] | Iterable[str]) -> str:
    names = known if isinstance(known, Mapping) else {each: each for each in known}
    close = difflib.get_close_matches(name.casefold(), names, n=1)
    return f", did you mean {names[close[0]]}?" if close else ""


def _show(value: Any) -> str:
    """Show one value in a message: short, on one line, and nothing of what lies inside a collection."""
    if isinstance(value, dict | list | tuple) or value is None:
        return _describe_kind(value)
    shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _describe_kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", tuple: "a list", str: "text", type(None): "nothing"}
    return kinds.get(type(value), "a single value")


def _show_key(key: Key) -> str:
    """Write a key as people do: `tables.audit_events.primary_key[0]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part if part.isprintable() else repr(part)}" for part in key)
    return "".join(parts).removeprefix(".")


def _name_heirs(heirs: list[str], tables: int) -> str:
    """Say which tables a default spoils, unless it is all of them."""
    if len(heirs) in (0, tables):
        return ""
    more = f" and {len(heirs) - 3} more" if len(heirs) > 3 else ""
    return f" (for {', '.join(heirs[:3])}{more})"


def _holds(document: Mapping[str, Any], key: Key) -> bool:
    """Whether a document has a value of its own at a key; positions in a list count as the list."""
    value: Any = document
    for part in takewhile(lambda part: isinstance(part, str), key):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def _put(document: dict[str, Any], key: Key, value: Any) -> None:
    """Set one value; a section that is not one stays as it is, to be told with the other faults."""
    *sections, last = key
    place: Any = document
    for part in sections:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            return
    place[last] = value


def _merge(defaults: Mapping[str, Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a table's section over the defaults: key by key, and so inside the sections."""
    merged = {**defaults, **section}
    for name in _SECTIONS:
        if isinstance(defaults.get(name), dict) and isinstance(section.get(name), dict):
            merged[name] = {**defaults[name], **section[name]}
    return merged


def _without_empty_sections(document: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out sections whose every line is a comment; YAML reads them as null."""
    return {name: value for name, value in document.items() if value is not None or name not in _SECTIONS}
