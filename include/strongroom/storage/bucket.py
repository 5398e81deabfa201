"""How a bucket is set up: what archives ask of it, what it says of itself, and the lifecycle rules that move parts on.

Rules are ours if their id begins with ``strongroom-`` and they speak of keys below our own prefix; all others are left
as they are. S3 by itself moves no object below 128 KiB, so each SHA256SUMS stays readable at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from strongroom.errors import StoreAccessError
from strongroom.object_keys.archives import manifest_prefix
from strongroom.object_keys.layout import ARCHIVES, EVIDENCE, HOLDS, SOURCE_IDENTITY, table_folder
from strongroom.records import Record
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_OWN = "strongroom-"
_UPLOADS = "unfinished-uploads"
_KEPT = (ARCHIVES, manifest_prefix(), EVIDENCE, HOLDS)
"""Prefixes below which nothing may go by itself."""


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
        return self.settings.bucket

    def put_rules(self, rules: list[dict[str, Any]]) -> None:
        """Replace all lifecycle rules."""
        with self._translated("write the lifecycle rules of", ""):
            self.client.put_bucket_lifecycle_configuration(Bucket=self.bucket, LifecycleConfiguration={"Rules": rules})


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


def refuse_early_expiry(store: Store, settings: TableSettings, *, now: datetime, until: datetime) -> str | None:
    """See that no lifecycle rule removes what a run is about to write before the archive's term is over.

    Args:
        store: Where a table's archives lie.
        settings: Of the table.
        now: Aware instant.
        until: The end of the term.

    Returns:
        Why nobody knows, if the store does not tell its rules; None if there is no such rule.

    Raises:
        StoreAccessError: There is such a rule.
    """
    try:
        rules = store.rules()
    except StoreAccessError as error:
        return (
            f"{store} does not tell this identity its lifecycle rules ({error.found}), so it is unknown whether one removes "
            "archives before their term; give it s3:GetLifecycleConfiguration, as deploy/s3/archiver.json does"
        )
    if rules is None:
        return f"the server of {store} tells no lifecycle rules, so it is unknown whether one removes archives before their term"
    folder = table_folder(settings.schema_name, settings.table_name)
    ours = (f"{ARCHIVES}{folder}/", f"{manifest_prefix()}{folder}/", f"{EVIDENCE}{folder}/", HOLDS, SOURCE_IDENTITY)
    early = [rule for rule in rules if _meets(store, rule, ours) and not _by_tag(rule) and _ends(rule, now) < until]
    if early:
        raise StoreAccessError(
            f"a lifecycle rule of the bucket removes archives of {settings.qualified_name} before their term is over",
            expected=f"no rule that removes current or earlier versions before {until:%Y-%m-%d}",
            found="; ".join(f"{rule.get('ID', 'a rule without an id')}: {_in_words(rule)}" for rule in early),
            hint="Nothing was written and no row was deleted. Take the rule away, or keep it to other prefixes than "
            "archives/, metadata/, evidence/ and holds/; `airflow strongroom bucket check` shows all rules.",
        )
    return None


def _by_tag(rule: dict[str, Any]) -> bool:
    """Whether a rule is for objects with a tag only; none of ours has one."""
    filter_ = rule.get("Filter", {})
    return bool(filter_.get("Tag") or filter_.get("And", {}).get("Tags"))


def _ends(rule: dict[str, Any], now: datetime) -> datetime:
    """The first instant at which a rule may remove a version that is written now, or hidden by another one from now on."""
    if not _deletes(rule):
        return datetime.max.replace(tzinfo=now.tzinfo)
    expiration, earlier = rule.get("Expiration", {}), rule.get("NoncurrentVersionExpiration")
    ends: list[datetime] = [expiration["Date"]] if "Date" in expiration else []
    ends += [now + timedelta(days=expiration["Days"])] if "Days" in expiration else []
    ends += [now + timedelta(days=earlier.get("NoncurrentDays", 0))] if earlier else []
    return min(ends)


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
    answer = store.ask_bucket(operation)
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
        if not _is_own(store, rule) and _deletes(rule) and _meets(store, rule, _KEPT)
    ]
    return findings


def _deletes(rule: dict[str, Any]) -> bool:
    expiration = rule.get("Expiration", {})
    expires = "Days" in expiration or "Date" in expiration or "NoncurrentVersionExpiration" in rule
    return expires and rule.get("Status") == "Enabled"


def _meets(store: Store, rule: dict[str, Any], kept: Sequence[str]) -> bool:
    """Whether a rule speaks of keys below one of the prefixes."""
    theirs = _prefix(rule)
    return any(ours.startswith(theirs) or theirs.startswith(ours) for ours in map(store.key_of, kept))


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
