"""The identities of an archive store: a probe is written, read back and removed, and what each must not do is tried on it.

The probe is a claim that has run out, so that whatever a check leaves behind when it is killed is swept away like any other old claim.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from strongroom.checks.result import Checklist
from strongroom.errors import IntegrityError, StoreAccessError, StoreError, StrongroomError
from strongroom.ledger.claims import shared_clock
from strongroom.ledger.owner import require_owner
from strongroom.object_keys.layout import ARCHIVES, EVIDENCE, HOLDS, PROBES, REPORTS
from strongroom.records import Claim, SourceIdentity
from strongroom.settings import TableSettings
from strongroom.storage.bucket import refuse_early_expiry
from strongroom.storage.store import Store
from strongroom.storage.tried_store import NO_VERSION, TriedStore

_POLICY = "Attach the policy that `deploy/s3/fill {policy} BUCKET PREFIX` prints, and nothing beside it, to the keys of {conn_id}."


class ProbedStore:
    """One bucket and prefix while it is tried.

    Args:
        checks: Where results are noted.
        store: With the archiver's keys.
        conn_id: The connection of these keys.
    """

    def __init__(self, checks: Checklist, store: Store, conn_id: str) -> None:
        self._checks = checks
        self._store = store
        self._archiver = TriedStore(store.client, store.settings)
        self._hint = _POLICY.format(policy="archiver.json", conn_id=conn_id)
        token = secrets.token_hex(8)
        self.key = f"{PROBES}{token}.json"
        self._elsewhere = f"strongroom-check/{token}"
        self._token = token
        self._written: str | None = None

    def check_bucket(self, now: Callable[[], datetime]) -> bool:
        """Whether the bucket lets the archiver in, keeps versions, and agrees about the time. Creates nothing."""

        def prepared() -> str:
            self._store.prepare(create=False)
            mode = self._store.settings.object_lock
            return "versions kept" + (f", Object Lock in {mode} mode possible" if mode != "off" else "")

        def agreed() -> None:
            shared_clock(self._store, now())

        if not self._checks.attempt("the bucket is there, lets the archiver in and keeps versions", prepared):
            return False
        self._checks.attempt("the clocks of the store and of this machine agree", agreed)
        return True

    def check_archiver(self, now: datetime) -> bool:
        """Write a probe, read it back, and try what the archiver must not do. Returns whether there is a probe."""
        body = Claim(
            owner="airflow strongroom check",
            state="released",
            taken_at=now - timedelta(days=365),
            expires_at=now - timedelta(days=365),
        ).to_bytes()

        def written() -> str:
            version = self._store.put_bytes(self.key, body)
            self._written = version.version_id or NO_VERSION
            present = self._store.read(self.key)
            if present is None or present[0] != body:
                raise _differs(self._store, self.key)
            wanted, seen = self._store.settings.sse, self._store.head(self.key)
            encryption = None if seen is None else seen.encryption
            if wanted != "none" and encryption is None:
                return f"{len(body)} bytes; the server does not say that it encrypts them, as store.sse asks ({wanted})"
            return f"{len(body)} bytes"

        if not self._checks.attempt("the archiver writes an object, and reads back the same bytes", written):
            return False
        self._conditional_writes(body)
        self._comparing_server(body)
        checks, archiver, hint = self._checks, self._archiver, self._hint
        outside = archiver.may_write(self._elsewhere, body)
        checks.refused("the archiver's writing outside its folders", outside, hint)
        checks.refused("the archiver's hiding an object behind a delete marker", archiver.may_hide(self.key), hint)
        removed = archiver.may_remove(self.key, self._written or NO_VERSION)
        checks.refused("the archiver's removing a version", removed, hint)
        return True

    def _conditional_writes(self, body: bytes) -> None:
        """If-None-Match and If-Match keep two runs apart; a server that ignores them loses archives."""

        def honoured() -> str:
            if self._store.swap(self.key, body, etag=None) or self._store.swap(self.key, body, etag="0" * 32):
                raise _ignores_conditions(self._store)
            return "If-None-Match and If-Match are honoured"

        self._checks.attempt("the server refuses to overwrite what it is told not to", honoured)

    def _comparing_server(self, body: bytes) -> None:
        """A server that compares an upload with its SHA-256 finds what broke on the way at once, and not only when it is read back."""
        [planted] = self._planted("broken")
        what = "the server refuses an upload that is not what its SHA-256 says"
        try:
            taken = self._archiver.takes_what_broke(planted, body)
        except StrongroomError as error:
            self._checks.fault(what, error)
            return
        if taken:
            self._checks.warning(
                what,
                "it took one",
                "Prefer a server that compares. No row depends on it: each upload is read back and compared before a row is deleted, but that is later.",
            )
        else:
            self._checks.ok(what)

    def check_keys(self) -> None:
        """The server asks who somebody is. Where it does not, whoever reaches it may remove archives, whatever the policies say."""
        stranger = self._archiver.lets_strangers_in(f"{ARCHIVES}strongroom-check/{self._token}")
        hint = (
            "This server lets everybody in who reaches it: switch its access control on. "
            "One that has none, such as a simulator, is not fit for archives."
        )
        self._checks.refused("an access key that was never given out", stranger, hint)

    def check_rules(self, tables: Sequence[TableSettings], now: datetime) -> None:
        """No lifecycle rule removes archives of a table before their term."""
        for table in tables:
            what = f"no lifecycle rule removes archives of {table.qualified_name} before {table.cold_retention.in_words} are over"
            try:
                doubt = refuse_early_expiry(self._store, table, now=now, until=table.cold_retention.after(now))
            except StrongroomError as error:
                self._checks.fault(what, error)
                continue
            if doubt is None:
                self._checks.ok(what)
            else:
                self._checks.warning(
                    what,
                    doubt,
                    "Look at the bucket's rules with an administrator's keys: airflow strongroom bucket check --conn-id …",
                )

    def check_owner(self, source: SourceIdentity) -> None:
        """The store belongs to the database of its tables."""

        def owned() -> str:
            require_owner(self._store, source)
            return source.database

        self._checks.attempt("the store belongs to the source database", owned)

    def check_purger(self, purger: TriedStore, conn_id: str) -> None:
        """The purger removes the probe, and is refused everything that is not its work."""
        checks, hint = self._checks, _POLICY.format(policy="purger.json", conn_id=conn_id)
        [planted] = self._planted("purger")
        checks.refused("the purger's writing", purger.may_write(planted, b"{}"), hint)
        checks.refused("the purger's hiding an object behind a delete marker", purger.may_hide(self.key), hint)
        for prefix, what in ((EVIDENCE, "evidence"), (HOLDS, "holds"), (REPORTS, "reports")):
            never = f"{prefix}strongroom-check/{self._token}.json"
            checks.refused(f"the purger's removing {what}", purger.may_remove(never, NO_VERSION), hint)

        def removed() -> str:
            versions = _remove_versions(purger, self.key, planted)
            return f"{versions} {'version' if versions == 1 else 'versions'}"

        checks.attempt("the purger removes the probe for good", removed)

    def _planted(self, *identities: str) -> tuple[str, ...]:
        """Keys of what identities try to write that must not."""
        return tuple(f"{PROBES}{self._token}-{identity}.json" for identity in identities)

    def clean_up(self, *others: TriedStore) -> None:
        """Remove what a wrong right has let through, with whichever keys can."""
        for key in (self.key, self._elsewhere, *self._planted("broken", "purger", "publisher")):
            for store in (*others, self._archiver):
                try:
                    for version in store.history(key):
                        store.remove(version)
                except StrongroomError:
                    continue
            try:
                left = self._archiver.history(key)
            except StrongroomError:
                left = ()
            if left:
                self._checks.warning(
                    "nothing of the check stays in the store",
                    f"{self._archiver}{key} is still there",
                    "An old claim is removed by the next sweep of retention_purge; let an administrator of the bucket remove anything else.",
                )

    def check_stager(self, stager: TriedStore, conn_id: str) -> None:
        """The stager works below its prefix, and comes to no archive."""
        checks, hint = self._checks, _POLICY.format(policy="stager.json", conn_id=conn_id)
        key = f"staging/strongroom-check/{self._token}"
        worked = partial(_write_read_remove, stager, key, lambda: _remove_versions(stager, key))
        checks.attempt("the stager writes, reads and removes in staging", worked)
        apart = TriedStore(stager.client, self._store.settings)
        checks.refused(
            "the stager's reading an archive", apart.may_read(f"{ARCHIVES}strongroom-check/{self._token}"), hint
        )
        never = f"{EVIDENCE}strongroom-check/{self._token}.json"
        checks.refused("the stager's removing evidence", apart.may_remove(never, NO_VERSION), hint)

    def check_publisher(self, own: TriedStore, archives: TriedStore, conn_id: str) -> None:
        """Who publishes Iceberg tables reads archives, and writes only in a bucket of its own, which keeps no versions."""
        checks = self._checks
        hint = "Attach the policies that `deploy/s3/fill iceberg.json BUCKET PREFIX` and `iceberg-archives.json` print, and nothing else."
        key = f"strongroom-check/{self._token}"

        def remove() -> None:
            if not own.may_hide(key):  # without versions nothing is hidden: it is gone
                raise StoreAccessError(f"{own}{key} cannot be removed", hint=hint)
            if own.head(key) is not None:
                raise _stays(own, key)

        worked = partial(_write_read_remove, own, key, remove)
        checks.attempt(f"{conn_id} writes, reads and removes in the bucket of Iceberg tables", worked)
        if archives.may_read(f"{ARCHIVES}strongroom-check/{self._token}"):
            checks.ok(f"{conn_id} may read archives")
        else:
            checks.failed(f"{conn_id} may read archives", "it was refused", hint)
        [planted] = self._planted("publisher")
        checks.refused(f"writing into the archive store with {conn_id}", archives.may_write(planted, b"{}"), hint)
        never = f"{EVIDENCE}strongroom-check/{self._token}.json"
        checks.refused(f"removing evidence with {conn_id}", archives.may_remove(never, NO_VERSION), hint)


def check_replica(
    checks: Checklist, table: TableSettings, store: Store, purger: TriedStore, now: Callable[[], datetime]
) -> None:
    """The same trials in the bucket of the second copy."""
    replica = table.replica
    probed = ProbedStore(checks, store, replica.conn_id)
    if not probed.check_bucket(now):
        return
    if replica.filled_by == "store":  # then the archiver's keys only read there
        checks.warning(
            "the second copy is filled by the store itself",
            "not tried here, since our keys only read it",
            "The DAG replicate_archives compares both copies: look at its last run.",
        )
        return
    probed.check_keys()
    if probed.check_archiver(now()):
        probed.check_purger(purger, replica.purge_conn_id)
    probed.clean_up(purger)


def _write_read_remove(store: Store, key: str, remove: Callable[[], object]) -> str:
    """Try an identity at work; says where it worked."""
    body = b"{}"
    store.put_bytes(key, body)
    present = store.read(key)
    remove()
    if present is None or present[0] != body:
        raise _differs(store, key)
    return str(store)


def _remove_versions(store: TriedStore, *keys: str) -> int:
    """Remove all versions of some objects; says how many there were.

    Raises:
        StoreError: One is still there.
    """
    versions = [version for key in keys for version in store.history(key)]
    for version in versions:
        store.remove(version)
    for key in keys:
        if store.history(key):
            raise _stays(store, key)
    return len(versions)


def _differs(store: Store, key: str) -> StrongroomError:
    return IntegrityError(
        f"{store}{key} is not what was written there a moment ago",
        hint="Nothing else was changed. Use a store that reads back what it was given; ask who else writes there.",
    )


def _ignores_conditions(store: Store) -> StrongroomError:
    return StoreAccessError(
        f"{store} does not know conditional writes",
        expected="If-None-Match: * and If-Match to be refused where they do not hold",
        hint="On such a store one run could overwrite the archive of another. Use S3 itself, or a server that honours both.",
    )


def _stays(store: Store, key: str) -> StrongroomError:
    return StoreError(
        f"{store}{key} was removed and is still there",
        hint="Check whether the bucket replicates into itself, or whether there is a cache in between.",
    )
