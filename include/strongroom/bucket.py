"""How a bucket is set up: what archives ask of it, what it says of itself, and the lifecycle rules that move parts on.

Rules are ours if their id begins with ``strongroom-`` and they speak of keys below our own prefix; all others are left
as they are. S3 by itself moves no object below 128 KiB, so each SHA256SUMS stays readable at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from botocore.exceptions import ClientError

from strongroom.errors import StoreAccessError
from strongroom.object_keys import ARCHIVES, EVIDENCE, HOLDS, manifest_prefix, table_folder
from strongroom.records import Record
from strongroom.settings import TableSettings
from strongroom.store import Store

_OWN = "strongroom-"
_UPLOADS = "unfinished-uploads"

_UNKNOWN = frozenset({"NotImplemented", "XNotImplemented", "MethodNotAllowed", "501", "405"})
_NONE = frozenset(
    {
        "NoSuchLifecycleConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchPublicAccessBlockConfiguration",
    }
)


class Finding(Record):
    """One thing about a bucket. ``unknown``: the server does not speak of it."""

    what: str
    expected: str
    found: str
    result: Literal["right", "differs", "unknown"]


class BucketStore(Store):
    """A bucket as its administrator sees it."""

    @property
    def bucket(self) -> str:
        """Its name."""
        return self._settings.bucket

    def ask(self, operation: str) -> dict[str, Any] | None:
        """What the bucket says of one of its settings: empty where nothing is set, None where the server knows no such."""
        method: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        with self._translated(f"ask {operation} of", ""):
            try:
                return method(Bucket=self.bucket)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code"))
                status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
                if code in _NONE:
                    return {}
                if {code, status} & _UNKNOWN:
                    return None
                raise

    def put_rules(self, rules: list[dict[str, Any]]) -> None:
        """Replace all lifecycle rules."""
        with self._translated("write the lifecycle rules of", ""):
            self._client.put_bucket_lifecycle_configuration(Bucket=self.bucket, LifecycleConfiguration={"Rules": rules})

    def rules(self) -> list[dict[str, Any]] | None:
        """All lifecycle rules as the server tells them; None where it knows none."""
        answer = self.ask("get_bucket_lifecycle_configuration")
        return None if answer is None else list(answer.get("Rules", ()))

    def key_of(self, key: str) -> str:
        """A key with the store's prefix."""
        return self._prefix + key


def wanted_rules(store: BucketStore, tables: Iterable[TableSettings]) -> list[dict[str, Any]]:
    """The lifecycle rules that the settings of the store's tables ask for.

    Args:
        store: One bucket and prefix.
        tables: All tables whose archives lie there.
    """
    tables = list(tables)
    rules: list[dict[str, Any]] = [
        {
            "ID": _rule_id(store, _UPLOADS),
            "Status": "Enabled",
            "Filter": {"Prefix": store.key_of(ARCHIVES)},
            "AbortIncompleteMultipartUpload": {
                "DaysAfterInitiation": max((table.purge.sweep_after_days for table in tables), default=7)
            },
        }
    ]
    for table in tables:
        folder = table_folder(table.schema_name, table.table_name)
        transitions = [{"Days": days, "StorageClass": name} for name, days in table.transitions.days.items()]
        if transitions:
            rules.append(
                {
                    "ID": _rule_id(store, folder),
                    "Status": "Enabled",
                    "Filter": {"Prefix": store.key_of(f"{ARCHIVES}{folder}/")},
                    "Transitions": transitions,
                }
            )
    return rules


def _rule_id(store: BucketStore, name: str) -> str:
    """Ids must differ in one bucket, and two prefixes of it may belong to two of us."""
    return f"{_OWN}{store.key_of(name)}"


def apply_rules(store: BucketStore, tables: Iterable[TableSettings]) -> list[str]:
    """Write the lifecycle rules that are wanted; rules of others stay as they are. A repeat writes nothing.

    Returns:
        Ids of the rules that were written or removed.

    Raises:
        StoreAccessError: The server knows no lifecycle rules, or this identity may not write them.
    """
    wanted, present = wanted_rules(store, tables), store.rules()
    if present is None:
        raise StoreAccessError(
            f"the server of {store} knows no lifecycle rules",
            hint="Nothing was changed. Archives stay in the storage class that they were uploaded to.",
        )
    own = [rule for rule in present if _is_own(store, rule)]
    changed = _differing(wanted, own)
    if changed:
        store.put_rules([*(rule for rule in present if not _is_own(store, rule)), *wanted])
    return changed


def check_bucket(store: BucketStore, tables: Iterable[TableSettings]) -> list[Finding]:
    """Compare a bucket with what its archives need. Changes nothing.

    Raises:
        StoreAccessError: There is no such bucket, or this identity may not ask.
    """
    tables = list(tables)
    sse = tables[0].store.sse
    findings = [
        _compare(store, "versioning", "get_bucket_versioning", "Enabled", lambda answer: answer.get("Status", "off")),
        _compare(store, "Object Lock", "get_object_lock_configuration", "Enabled", _object_lock),
    ]
    if sse != "none":
        findings.append(_compare(store, "encryption", "get_bucket_encryption", sse, _encryption))
    findings.append(_compare(store, "public access", "get_public_access_block", "blocked", _public_access))
    return [*findings, *_compare_rules(store, tables)]


def _compare(
    store: BucketStore, what: str, operation: str, expected: str, tell: Callable[[dict[str, Any]], str]
) -> Finding:
    answer = store.ask(operation)
    if answer is None:
        return Finding(what=what, expected=expected, found="the server does not say", result="unknown")
    found = tell(answer)
    return Finding(what=what, expected=expected, found=found, result="right" if found == expected else "differs")


def _object_lock(answer: dict[str, Any]) -> str:
    return str(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled", "off"))


def _encryption(answer: dict[str, Any]) -> str:
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") for rule in rules]
    return str(next(filter(None, defaults), "off"))


def _public_access(answer: dict[str, Any]) -> str:
    block = answer.get("PublicAccessBlockConfiguration", {})
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    open_ = [name for name in names if not block.get(name)]
    return f"without {', '.join(open_)}" if open_ else "blocked"


def _compare_rules(store: BucketStore, tables: list[TableSettings]) -> list[Finding]:
    wanted, present = wanted_rules(store, tables), store.rules()
    findings = []
    own = {} if present is None else {rule["ID"]: rule for rule in present if _is_own(store, rule)}
    for rule in wanted:
        found = own.pop(rule["ID"], None)
        same = found is not None and _essence(found) == _essence(rule)
        findings.append(
            Finding(
                what=f"rule {rule['ID']}",
                expected=_in_words(rule),
                found="the server does not say" if present is None else _in_words(found) if found else "none",
                result="unknown" if present is None else "right" if same else "differs",
            )
        )
    findings += [
        Finding(what=f"rule {name}", expected="none", found=_in_words(rule), result="differs")
        for name, rule in own.items()
    ]
    findings += [
        Finding(
            what=f"rule {rule.get('ID', 'without an id')}",
            expected="nothing that deletes archives",
            found=_in_words(rule),
            result="differs",
        )
        for rule in present or ()
        if not _is_own(store, rule) and _deletes(rule) and _meets(store, rule)
    ]
    return findings


def _deletes(rule: dict[str, Any]) -> bool:
    expiration = rule.get("Expiration", {})
    expires = "Days" in expiration or "Date" in expiration or "NoncurrentVersionExpiration" in rule
    return expires and rule.get("Status") == "Enabled"


def _meets(store: BucketStore, rule: dict[str, Any]) -> bool:
    theirs = _prefix(rule)
    kept = map(store.key_of, (ARCHIVES, manifest_prefix(), EVIDENCE, HOLDS))
    return any(ours.startswith(theirs) or theirs.startswith(ours) for ours in kept)


def _is_own(store: BucketStore, rule: dict[str, Any]) -> bool:
    return str(rule.get("ID", "")).startswith(_OWN) and _prefix(rule).startswith(store.key_of(ARCHIVES))


def _prefix(rule: dict[str, Any]) -> str:
    filter_ = rule.get("Filter", {})
    return str(filter_.get("Prefix") or filter_.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _differing(wanted: list[dict[str, Any]], own: list[dict[str, Any]]) -> list[str]:
    here, there = ({rule["ID"]: _essence(rule) for rule in rules} for rules in (wanted, own))
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def _essence(rule: dict[str, Any]) -> tuple[Any, ...]:
    """What a rule does, whatever the server adds to it."""
    moves = [(each.get("Days"), each.get("StorageClass")) for each in rule.get("Transitions", ())]
    uploads = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
    deletes = (
        rule.get("Expiration"),
        rule.get("NoncurrentVersionExpiration"),
        rule.get("NoncurrentVersionTransitions"),
    )
    return (
        rule.get("Status"),
        _prefix(rule),
        sorted(moves, key=str),
        uploads,
        *(each or None for each in deletes),
    )


def _in_words(rule: dict[str, Any]) -> str:
    moves = [f"{each.get('StorageClass')} after {each.get('Days')} days" for each in rule.get("Transitions", ())]
    uploads = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
    moves += [f"unfinished uploads end after {uploads} days"] if uploads is not None else []
    moves += ["expires objects"] if rule.get("Expiration") or rule.get("NoncurrentVersionExpiration") else []
    state = "" if rule.get("Status") == "Enabled" else f"{rule.get('Status')}: "
    return f"{state}{', '.join(moves) or 'nothing'} under {_prefix(rule) or 'all keys'}"
