"""The settings of one table, and those of all tables, as frozen, checked records."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from strongroom.calendar import Frequency, Term
from strongroom.errors import ConfigurationError
from strongroom.settings.names import find_twins, make_slug, names_of, qualify
from strongroom.settings.sections import (
    Audit,
    Compression,
    DeleteLimits,
    DrillSettings,
    Erasure,
    Iceberg,
    Notification,
    PartitionDelete,
    Prices,
    Purge,
    QueryLimits,
    Replica,
    Section,
    StoreSettings,
    Subjects,
    Transitions,
)
from strongroom.settings.terms_in_words import terms_in
from strongroom.settings.units import UnitSettings, WithMembers
from strongroom.settings.values import (
    Budget,
    Count,
    Cron,
    Identifier,
    Identifiers,
    ProofRows,
    RetentionTerm,
    Retries,
    TableName,
    Text,
    TimeoutSeconds,
    check_bucket,
    check_prefix,
    fault,
    guess,
    is_exposed,
    length,
)

_S3 = "s3://"


_CUTS = frozenset("?#")
"""Where readers of Iceberg cut the name of an object."""


class TableSettings(WithMembers):
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
    confirmed: RetentionTerm | None = None
    cold_retention: RetentionTerm = Field(default=Term.parse("P7Y"), validate_default=True)
    legal_basis: Text
    format: Literal["jsonl", "parquet"] = "jsonl"
    compression: Compression = Compression()
    part_rows: Count = 1_000_000
    part_bytes: Count = 1_073_741_824
    delete_by: Literal["auto", "range", "key"] = "auto"
    delete_batch_rows: Count = 20_000
    delete_limits: DeleteLimits = DeleteLimits()
    partition_delete: PartitionDelete = PartitionDelete()
    stop_after: Budget | None = None
    pause_limit_seconds: TimeoutSeconds = 14_400
    vacuum_after_delete: bool = False
    max_parallel_parts: Count = 4
    proof_rows: ProofRows = 1000
    accepted_delete_triggers: Identifiers = ()
    staging: str = Field(default="strongroom-staging", validate_default=True)
    scratch: str = Field(default="strongroom-scratch", validate_default=True)
    claim_ttl_seconds: Count = 3600
    statement_timeout_seconds: TimeoutSeconds = 3600
    lock_timeout_seconds: TimeoutSeconds = 30
    connect_timeout_seconds: TimeoutSeconds = 10
    tls_required: bool = True
    store: StoreSettings = StoreSettings()
    replica: Replica = Replica()
    iceberg: Iceberg = Iceberg()
    purge: Purge = Purge()
    drill: DrillSettings = DrillSettings()
    query: QueryLimits = QueryLimits()
    subjects: Subjects = Subjects()
    erasure: Erasure = Erasure()
    audit: Audit = Audit()
    prices: Prices = Prices()
    transitions: Transitions = Transitions()
    notifications: tuple[Notification, ...] = ()
    source_conn_id: Text = "strongroom_source"
    replica_conn_id: Text | None = None
    store_conn_id: Text = "strongroom_store"
    purge_conn_id: Text = "strongroom_purge"
    log_conn_id: Text = "strongroom_log"
    staging_conn_id: Text = "strongroom_staging"
    restore_conn_id: Text = "strongroom_restore"
    drill_conn_id: Text = "strongroom_drill"
    subject_conn_id: Text = "strongroom_subjects"
    erasure_conn_id: Text = "strongroom_erasure"
    organisation: Text | None = None
    environment: Text | None = None
    owner: Text = "strongroom"
    retries: Retries = 3
    pool: Text = "default_pool"
    _unit: UnitSettings | None = PrivateAttr(default=None)

    @property
    def unit(self) -> UnitSettings | None:
        """The tables that it is archived together with; None if it is archived alone."""
        return self._unit

    def in_unit(self, unit: UnitSettings) -> TableSettings:
        """The settings of the table as one of a unit."""
        copy = self.model_copy()
        copy._unit = unit
        return copy

    @property
    def is_member(self) -> bool:
        """Whether it is archived by the run of another table, the root of its unit."""
        return self._unit is not None and not self._unit.is_root(self.table)

    @property
    def run_slug(self) -> str:
        """The slug of the table whose DAG archives this one: its own, or its root's."""
        return self.slug if self._unit is None else make_slug(self._unit.tables[0])

    @property
    def sha256(self) -> str:
        """Digest of all settings as they are in force, so that two moments can be compared."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

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

    @field_validator("cold_retention")
    @classmethod
    def _ask_twice(cls, term: Term, info: ValidationInfo) -> Term:
        """A term under a year is rare, and one wrong letter away from one of years: P7M, P7Y."""
        confirmed = info.data.get("confirmed")
        if "confirmed" in info.data and length(term) < length(Term(years=1)) and term != confirmed:
            days = (length(term) - length(Term(days=1))).days + 1
            raise fault(
                f"`confirmed: {term}` beside it, because archives would be destroyed after {term.in_words} ({days} days), "
                "less than a year",
                found=f"{term}, {_confirmed(info)}",
                mutual=True,
            )
        return term

    @field_validator("legal_basis")
    @classmethod
    def _compare_with_basis(cls, basis: str, info: ValidationInfo) -> str:
        """A term that is shorter than the one that its own reason names, or more than twice as long, is a slip unless said twice."""
        term, named = info.data.get("cold_retention"), terms_in(basis)
        if term is None or "confirmed" not in info.data or info.data["confirmed"] == term or not named:
            return basis
        longest = max(named, key=length)
        twice = Term(years=2 * longest.years, months=2 * longest.months, weeks=2 * longest.weeks, days=2 * longest.days)
        if length(longest) <= length(term) <= length(twice):
            return basis
        raise fault(
            f"`confirmed: {term}` beside it, because it says {longest.in_words} and cold_retention is {term.in_words}",
            found=f"cold_retention {term}, {_confirmed(info)}",
            mutual=True,
        )

    @field_validator("staging", "scratch")
    @classmethod
    def _make_absolute(cls, folder: str, info: ValidationInfo) -> str:
        """Read a relative folder from AIRFLOW_HOME, which all processes of one machine share."""
        shared = info.field_name == "staging"
        if shared and folder.startswith(_S3):
            bucket, _, prefix = folder.removeprefix(_S3).partition("/")
            return f"{_S3}{check_bucket(bucket)}/{check_prefix(prefix)}".removesuffix("/")
        if not folder.strip() or not folder.isprintable() or "://" in folder:
            several = f"a folder that every worker reaches under the same name, or {_S3}bucket/prefix"
            raise fault(several if shared else "a folder of the worker's own machine")
        environ = (info.context or {}).get("environ", os.environ)
        home = Path(environ.get("AIRFLOW_HOME") or "~/airflow")
        try:
            return str((home.expanduser() / Path(folder).expanduser()).absolute())
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

    @field_validator("subjects")
    @classmethod
    def _refuse_lock_for_ever(cls, subjects: Subjects, info: ValidationInfo) -> Subjects:
        """What nobody can remove cannot be erased."""
        store = info.data.get("store")
        if store is not None and subjects.obligation is False and store.object_lock == "compliance":
            raise fault(
                "obligation: true, or another store.object_lock: nobody can erase what is locked in compliance mode",
                found="obligation: false with object_lock: compliance",
                mutual=True,
            )
        return subjects

    @field_validator("replica")
    @classmethod
    def _require_another_place(cls, replica: Replica, info: ValidationInfo) -> Replica:
        """Refuse a second copy that would lie upon the first one."""
        store: StoreSettings | None = info.data.get("store")
        second = None if store is None else replica.of(store)
        if (
            store is not None
            and second is not None
            and (second.bucket, second.prefix, second.endpoint_url)
            == (
                store.bucket,
                store.prefix,
                store.endpoint_url,
            )
        ):
            raise fault(
                "a bucket, prefix or endpoint other than the store's", found=second.bucket, at="bucket", mutual=True
            )
        return replica

    @field_validator("iceberg")
    @classmethod
    def _require_own_bucket(cls, iceberg: Iceberg, info: ValidationInfo) -> Iceberg:
        """What is removed from it must be gone, so it keeps no versions, and archives must."""
        taken = [where.bucket for name in ("store", "replica") if (where := info.data.get(name)) is not None]
        if iceberg.bucket is not None and iceberg.bucket in taken:
            raise fault("a bucket of its own, without versions", found=iceberg.bucket, at="bucket", mutual=True)
        return iceberg

    @field_validator("iceberg")
    @classmethod
    def _require_readable_prefixes(cls, iceberg: Iceberg, info: ValidationInfo) -> Iceberg:
        """PyIceberg and Spark cut a location at these signs, as if it were the address of a web page."""
        store = info.data.get("store")
        if iceberg.bucket is not None and _CUTS & set(iceberg.prefix):
            raise fault("a prefix without ? and #, where readers of Iceberg cut a name", at="prefix")
        if iceberg.bucket is not None and store is not None and _CUTS & set(store.prefix):
            raise fault(
                "no bucket, since `store.prefix` has ? or #, where readers of Iceberg cut a name",
                found=iceberg.bucket,
                at="bucket",
                mutual=True,
            )
        return iceberg

    @property
    def iceberg_store(self) -> StoreSettings | None:
        """Where the metadata of the Iceberg table lies; None if there is no such table."""
        return self.iceberg.of(self.store)

    @property
    def replica_store(self) -> StoreSettings | None:
        """Where the second copy of the archives lies; None if there is none."""
        return self.replica.of(self.store)

    @property
    def staging_store(self) -> StoreSettings | None:
        """Where staging lies on S3, on the server of the archives; None where it is a folder."""
        if not self.staging.startswith(_S3):
            return None
        bucket, _, prefix = self.staging.removeprefix(_S3).partition("/")
        return self.store.model_copy(update={"bucket": bucket, "prefix": prefix, "storage_class": "STANDARD"})

    @property
    def working_folder(self) -> tuple[Path, str]:
        """The folder of this machine that a step works in, and the setting that names it."""
        name = "staging" if self.staging_store is None else "scratch"
        return Path(getattr(self, name)), name

    @property
    def claim_ttl(self) -> timedelta:
        """How long a claim on a partition of the table holds without being renewed."""
        return timedelta(seconds=self.claim_ttl_seconds)

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
        return qualify(self.table)

    @property
    def slug(self) -> str:
        """What stands for the table in a DAG id and in the name of a variable."""
        return make_slug(self.table)


class Settings(Section):
    """Every configured table, under the name that the file gives it, in the file's order.

    Attributes:
        left_out: What is wrong with each table that has a fault of its own. Nothing is done for it until it is corrected.
    """

    tables: Mapping[str, TableSettings]
    left_out: Mapping[str, str] = {}

    @field_validator("tables")
    @classmethod
    def _refuse_twins(cls, tables: Mapping[str, TableSettings]) -> Mapping[str, TableSettings]:
        for _, _, expected in find_twins(tables):
            raise fault(expected)
        return tables

    def table(self, name: str) -> TableSettings:
        """Find one table by its name in the file, its qualified name or its slug, in any case.

        Raises:
            ConfigurationError: No such table; names those that are configured. Or its settings are wrong.
        """
        wanted = name.casefold()
        for known, settings in self.tables.items():
            if wanted in names_of(known):
                return settings
        for known in self.left_out:
            if wanted in names_of(known):
                raise self.tell_left_out(known)
        raise ConfigurationError(
            f"table {name!r} is not configured{guess(name, list(self.tables))}",
            expected=f"one of {', '.join(self.tables)}",
            found=name,
            hint="Nothing was read or changed; name a configured table, or add it under `tables:` in archive.yaml.",
        )

    def members_of(self, root: TableSettings) -> tuple[TableSettings, ...]:
        """The settings of the tables that are archived with one."""
        names = () if root.unit is None or root.is_member else root.unit.members
        return tuple(self.table(name) for name in names)

    @property
    def roots(self) -> tuple[str, ...]:
        """Names of the tables that runs are started for: all but the members of units."""
        return tuple(name for name, table in self.tables.items() if not table.is_member)

    def root_of(self, table: TableSettings) -> TableSettings:
        """The table whose run archives this one: itself, or the root of its unit."""
        return table if table.unit is None else self.table(table.unit.tables[0])

    def leaves_out(self, schema_name: str, table_name: str) -> bool:
        """Whether a table stands in the file and its settings are wrong."""
        return any(f"{schema_name}.{table_name}".casefold() in names_of(known) for known in self.left_out)

    def tell_left_out(self, *names: str) -> ConfigurationError:
        """The error that says what is wrong with some of the tables that are left out."""
        return ConfigurationError(
            "\n".join(self.left_out[name] for name in names),
            hint="No row of such a table was touched and none of its archives was purged; nothing is started for it. The other "
            "tables are archived, restored and purged as usual. Correct these lines (all settings: docs/reference/configuration.md).",
        )


def _confirmed(info: ValidationInfo) -> str:
    confirmed = info.data.get("confirmed")
    return f"confirmed: {confirmed}" if confirmed else "not confirmed"


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
