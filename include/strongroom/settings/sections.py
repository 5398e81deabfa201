"""The sections of a table's settings, each a frozen, checked record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from strongroom.calendar import Term
from strongroom.settings.values import (
    Allowed,
    BucketName,
    Count,
    EndpointUrl,
    Identifier,
    Identifiers,
    LogKeys,
    NetworkSeconds,
    NotifierName,
    Percent,
    Prefix,
    Price,
    RetentionTerm,
    StorageClass,
    Text,
    TimeoutSeconds,
    Whole,
    WitnessKeys,
    fault,
    length,
)

LEVELS: Mapping[str, tuple[int, int, int]] = {"zstd": (1, 22, 3), "gzip": (1, 9, 6)}
"""Lowest, highest and default level of each type that has levels."""


class Section(BaseModel):
    """Frozen settings that refuse unknown keys and never quote a value that may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Compression(Section):
    """How a part is compressed."""

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


class StoreSettings(Section):
    """Where archives lie, and how to reach S3. The credentials are in an Airflow connection."""

    bucket: BucketName = "strongroom-archive"
    prefix: Prefix = ""
    region: Text = "us-east-1"
    endpoint_url: EndpointUrl | None = None
    storage_class: StorageClass = "STANDARD"
    sse: Literal["AES256", "aws:kms", "none"] = "AES256"
    kms_key_id: Text | None = Field(default=None, validate_default=True)
    create_bucket: bool = False
    object_lock: Literal["off", "governance", "compliance"] = "off"
    log_keys: LogKeys = ()
    witness_keys: WitnessKeys = ()
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


class Replica(Section):
    """A second copy of the archive store, in another bucket. ``filled_by: none`` means that there is none.

    A field that is None is as in the store, except the endpoint: that is the connection's own, or Amazon's.
    """

    filled_by: Literal["none", "store", "strongroom"] = "none"
    bucket: BucketName | None = Field(default=None, validate_default=True)
    prefix: Prefix | None = None
    region: Text | None = None
    endpoint_url: EndpointUrl | None = None
    storage_class: StorageClass = "STANDARD"
    kms_key_id: Text | None = None
    conn_id: Text = "strongroom_replica"
    purge_conn_id: Text = "strongroom_replica_purge"
    compare_days: Count = 90

    @field_validator("bucket")
    @classmethod
    def _check_bucket(cls, bucket: str | None, info: ValidationInfo) -> str | None:
        filled_by = info.data.get("filled_by", "none")
        if bucket is None and filled_by != "none":
            raise fault(f"the bucket of the second copy, because filled_by is {filled_by}", mutual=True)
        return bucket

    def of(self, store: StoreSettings) -> StoreSettings | None:
        """The settings that open the second copy of a store; None if there is none."""
        if self.filled_by == "none" or self.bucket is None:
            return None
        own = {
            "bucket": self.bucket,
            "endpoint_url": self.endpoint_url,
            "storage_class": self.storage_class,
            **({} if self.prefix is None else {"prefix": self.prefix}),
            **({} if self.region is None else {"region": self.region}),
            **({} if self.kms_key_id is None else {"kms_key_id": self.kms_key_id}),
        }
        return store.model_copy(update=own)


class Iceberg(Section):
    """Where the Iceberg tables over parquet archives are kept. Without a bucket there are none."""

    bucket: BucketName | None = None
    prefix: Prefix = ""
    catalog: Text = "strongroom"
    conn_id: Text = "strongroom_iceberg"
    catalog_conn_id: Text = "strongroom_iceberg_catalog"

    def of(self, store: StoreSettings) -> StoreSettings | None:
        """The settings that open the bucket, on the server of the archives; None if there is none."""
        if self.bucket is None:
            return None
        return store.model_copy(update={"bucket": self.bucket, "prefix": self.prefix, "storage_class": "STANDARD"})


class DeleteLimits(Section):
    """The limits above which a delete pauses by itself. None means no limit."""

    replication_lag_seconds: NetworkSeconds | None = 30
    replication_lag_bytes: Count | None = 536_870_912
    waiting_sessions: Allowed | None = 0
    commit_seconds: NetworkSeconds | None = 1
    dead_rows_percent: Percent | None = None
    longest_pause_seconds: TimeoutSeconds = 3600


class PartitionDelete(Section):
    """Whether table partitions of which every row is proved are detached, and how long they wait before they are dropped."""

    enabled: bool = False
    cooling_off: RetentionTerm = Term.parse("P1D")
    conn_id: Text = "strongroom_owner"


class Purge(Section):
    """How expired archives are destroyed, and when the leftovers of broken runs are swept away."""

    require_approval: bool = False
    four_eyes: bool = False
    confirmed: Mapping[Literal["require_approval", "four_eyes"], bool] = {}
    approval_timeout_seconds: TimeoutSeconds = 72_000
    sweep_after_days: Count = 7

    @field_validator("confirmed")
    @classmethod
    def _compare(cls, confirmed: Mapping[str, bool], info: ValidationInfo) -> Mapping[str, bool]:
        """It repeats what stands beside it. So what is left of an earlier change confirms no later one."""
        for name, said in confirmed.items():
            beside = info.data.get(name, said)
            if said != beside:
                raise fault(
                    f"`{name}: {_word(beside)}` as beside it, or no word of {name}",
                    found=_word(said),
                    at=name,
                    mutual=True,
                )
        return confirmed


class DrillSettings(Section):
    """Where archives are restored as a drill, how many besides those that every drill takes, and how large one may be."""

    scratch_schema: Identifier = "strongroom_drill"
    random: Allowed = 1
    most_bytes: Count = 10_737_418_240


class Subjects(Section):
    """Which columns identify persons, and what becomes of a person's rows when erasure is asked for."""

    columns: Mapping[Identifier, Text] = {}
    obligation: bool | None = Field(default=None, validate_default=True)
    about_two: Literal["remove", "blank", "keep"] = "remove"
    also_blank: Identifiers = ()
    recipients: tuple[Text, ...] = ()

    @field_validator("obligation")
    @classmethod
    def _require_decision(cls, obligation: bool | None, info: ValidationInfo) -> bool | None:
        """Nobody but the controller can say whether a law obliges to keep the rows: GDPR 17(3)(b)."""
        if info.data.get("columns") and obligation is None:
            raise fault(
                "true if a law obliges you to keep the rows until their term is over, so that erasure is refused, else false",
                mutual=True,
            )
        return obligation


class Erasure(Section):
    """How erasing a person goes on: who is asked for how long, and how long an archive stays that another supersedes."""

    cooling_off: RetentionTerm = Term.parse("P7D")
    approval_timeout_seconds: TimeoutSeconds = 604_800


class QueryLimits(Section):
    """What one query may take."""

    memory_bytes: Annotated[Count, Field(ge=256 << 20)] = 1_073_741_824
    timeout_seconds: TimeoutSeconds = 600
    most_rows: Count = 100_000
    most_result_bytes: Count = 268_435_456


class Notification(Section):
    """Who is told of what. The notifier is a short name or the path of a class of Airflow's kind; its secrets are in an Airflow connection."""

    when: Annotated[tuple[Literal["failed", "approval_wanted", "overdue", "drill_failed"], ...], Field(min_length=1)]
    notifier: NotifierName
    arguments: Mapping[str, Any] = {}

    @field_validator("arguments")
    @classmethod
    def _refuse_secrets(cls, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Names, hosts and addresses of mail may stand in the file; what opens a door may not."""
        for name, value in arguments.items():
            if _SECRET_NAME.search(name) and not name.endswith("conn_id"):
                raise fault(
                    "the id of an Airflow connection that has the secret", found=f"an argument {name}", mutual=False
                )
            if isinstance(value, str) and _SECRET_ADDRESS.search(value):
                raise fault(
                    "the id of an Airflow connection that has this address", found=f"an address with a secret in {name}"
                )
        return arguments


def _word(value: bool) -> str:
    return str(value).lower()


_SECRET_NAME = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_SECRET_ADDRESS = re.compile(r"://[^/\s]*:[^/\s]*@|hooks\.slack\.com/|/webhooks?/", re.IGNORECASE)


class RequiredControl(Section):
    """A requirement of a regulator, as its citation says it, and the acts that show how it is met."""

    id: Annotated[str, Field(pattern="^[a-z][a-z0-9-]*$", max_length=64)]
    title: Text
    citation: Text
    kinds: Annotated[tuple[Text, ...], Field(min_length=1)] = ("archived", "empty")


class Audit(Section):
    """What an audit report says beside what every report does."""

    controls: tuple[RequiredControl, ...] = ()


class Prices(Section):
    """What a gibibyte costs in US dollars a month: in the hot table, in the warm table, and in each storage class of S3."""

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
        name = storage_class.lower()
        price: float = getattr(self, name) if name in type(self).model_fields else self.standard
        return price


class Transitions(Section):
    """How long after its upload S3 moves a part to each storage class. None means never.

    `airflow strongroom bucket apply` turns this into lifecycle rules.
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
        """Days from the upload to each storage class, in the order in which a part moves through them."""
        terms = ((name.upper(), getattr(self, name)) for name in type(self).model_fields)
        return {name: (length(term) - length(Term(days=1))).days + 1 for name, term in terms if term is not None}


SECTIONS: Mapping[str, type[BaseModel]] = {
    "audit": Audit,
    "compression": Compression,
    "delete_limits": DeleteLimits,
    "partition_delete": PartitionDelete,
    "store": StoreSettings,
    "replica": Replica,
    "iceberg": Iceberg,
    "purge": Purge,
    "drill": DrillSettings,
    "query": QueryLimits,
    "subjects": Subjects,
    "erasure": Erasure,
    "prices": Prices,
    "transitions": Transitions,
}
"""Settings of a table that are mappings themselves, by their key."""
