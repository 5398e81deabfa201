"""Who must approve a purge, and for how long approval that was switched off is still asked for."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from strongroom.ledger.configuration import keep_settings, notice_change, past_settings
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.policy import PurgePolicies, PurgePolicy
from strongroom.settings import Settings, TableSettings
from strongroom.storage.store import Store
from tests.support.chain import some_settings

NOW = datetime.now(timezone.utc)
DAY, WAITING = timedelta(days=1), timedelta(days=30)
AUDIT, CALLS = (ArchiveId("public", table, "2015-05", 1) for table in ("audit", "calls"))
BY_PERSON, BY_TWO = {"require_approval": True}, {"four_eyes": True}


class Desk:
    """A store, and tables with the settings that each of them has at one time."""

    def __init__(self, store: Store, staging: str) -> None:
        self.store, self.staging = store, staging

    def table(self, name: str = "audit", **purge: Any) -> TableSettings:
        return some_settings(self.store.settings.bucket, self.staging, name, purge=purge)

    def kept(self, name: str = "audit", **purge: Any) -> None:
        """The table is sealed under these settings."""
        keep_settings(self.store, self.table(name, **purge))

    def policy(self, archive: ArchiveId, *tables: TableSettings, after: timedelta = timedelta()) -> PurgePolicy:
        settings = Settings(tables={one.table: one for one in tables or (self.table("other"),)})
        return PurgePolicies(settings, self.store, NOW + after).of(archive)


@pytest.fixture
def desk(object_store, bucket, tmp_path) -> Desk:
    settings = some_settings(bucket, tmp_path)
    return Desk(Store(object_store.client("archiver"), settings.store), str(tmp_path))


@pytest.mark.parametrize(
    ("purge", "asks"),
    [({}, (False, False)), (BY_PERSON, (True, False)), (BY_TWO, (True, True))],
)
def test_settings_that_nobody_changed_count_as_they_are(desk, purge, asks):
    desk.kept(**purge)

    policy = desk.policy(AUDIT, desk.table(**purge))

    assert (policy.approval, policy.four_eyes) == asks
    assert "was switched off" not in policy.why


@pytest.mark.parametrize(("before", "eyes"), [(BY_PERSON, False), (BY_TWO, True)])
def test_what_was_switched_off_is_asked_for_thirty_days_more(desk, before, eyes):
    """From the day on which the store first saw other settings, by its own clock."""
    desk.kept(**before)
    loose = desk.table()
    notice_change(desk.store, loose)
    [switch] = before

    soon, late = (desk.policy(AUDIT, loose, after=after) for after in (WAITING - DAY, WAITING + DAY))

    assert (soon.approval, soon.four_eyes) == (True, eyes)
    until = f"{datetime.now(timezone.utc) + WAITING:%Y-%m-%d}"
    assert soon.why == (
        f"purge.{switch} was switched off on {NOW:%Y-%m-%d}; until {until} it counts as on, "
        f"unless purge.confirmed says {switch}: false"
    )
    assert (late.approval, late.four_eyes, late.why) == (False, False, "purge.require_approval is off")


def test_a_change_that_no_run_has_seen_yet_counts_from_now_and_a_look_writes_nothing(desk):
    """However long ago the file was changed: all DAGs may have been paused."""
    desk.kept(**BY_PERSON)
    before = list(desk.store.keys(""))

    policy = desk.policy(AUDIT, desk.table(), after=1000 * DAY)

    assert policy.approval
    assert f"was switched off on {NOW + 1000 * DAY:%Y-%m-%d}" in policy.why
    assert list(desk.store.keys("")) == before


def test_a_second_pair_of_eyes_that_is_switched_off_leaves_the_first(desk):
    desk.kept(require_approval=True, four_eyes=True)
    notice_change(desk.store, desk.table(**BY_PERSON))

    soon, late = (desk.policy(AUDIT, desk.table(**BY_PERSON), after=after) for after in (DAY, WAITING + DAY))

    assert (soon.approval, soon.four_eyes) == (True, True)
    assert (late.approval, late.four_eyes, late.why) == (True, False, "purge.require_approval is on")


def test_what_is_said_twice_counts_at_once_and_only_of_what_it_says(desk):
    desk.kept(require_approval=True, four_eyes=True)

    both = desk.policy(AUDIT, desk.table(confirmed={"require_approval": False, "four_eyes": False}))
    one = desk.policy(AUDIT, desk.table(confirmed={"four_eyes": False}))

    assert (both.approval, both.why) == (False, "purge.require_approval is off, confirmed")
    assert (one.approval, one.four_eyes) == (True, False)
    assert "require_approval was switched off" in one.why


def test_other_changes_meanwhile_shorten_nothing(desk):
    """The strict settings ended at the first change; a second one and a third came on the same day."""
    desk.kept(**BY_PERSON)
    for days in (8, 9, 10):
        notice_change(desk.store, desk.table(sweep_after_days=days))

    soon, late = (
        desk.policy(AUDIT, desk.table(sweep_after_days=10), after=after) for after in (WAITING - DAY, WAITING + DAY)
    )

    assert (soon.approval, late.approval) == (True, False)


def test_settings_end_at_the_instant_that_the_store_gives_the_record_of_the_change(desk):
    """They were in force until then, and not at that instant any more."""
    desk.kept(**BY_PERSON)
    notice_change(desk.store, desk.table())
    [changed] = desk.store.versions("evidence/public.audit/settings/changes/")

    at_it, before_it = (
        past_settings(desk.store, "public", "audit", since=changed.modified_at - early)
        for early in (timedelta(), timedelta(microseconds=1))
    )

    assert [one.ended_at for one in at_it] == [None]
    assert [one.ended_at for one in before_it] == [None, changed.modified_at]
    assert [(one.values or {})["purge"]["require_approval"] for one in before_it] == [False, True]


def test_settings_that_came_back_count_until_they_went_again(desk):
    loose, strict = desk.table(), desk.table(**BY_PERSON)
    for settings in (loose, strict, loose):
        keep_settings(desk.store, settings)

    assert desk.policy(AUDIT, loose, after=DAY).approval
    assert not desk.policy(AUDIT, loose, after=WAITING + DAY).approval


def test_a_table_of_which_the_store_has_no_earlier_settings_is_asked_about(desk):
    """Its archives are older than this rule. A purge does not make its own settings the earlier ones."""
    notice_change(desk.store, desk.table())

    policy = desk.policy(AUDIT, desk.table())

    assert (policy.approval, policy.four_eyes) == (True, True)
    assert policy.why.startswith("the store has kept no settings of public.audit yet")
    assert not desk.policy(AUDIT, desk.table(confirmed={"require_approval": False, "four_eyes": False})).approval


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_earlier_settings_that_nobody_can_read_count_as_strict(desk, object_store, damage):
    desk.kept()
    loose = desk.table(sweep_after_days=8)
    notice_change(desk.store, loose)
    key = f"evidence/public.audit/settings/{desk.table().sha256}.json"
    admin = object_store.client("admin")
    if damage == "gone":
        admin.delete_object(Bucket=desk.store.settings.bucket, Key=key)
    else:
        admin.put_object(Bucket=desk.store.settings.bucket, Key=key, Body=b'{"purge": {}}')

    policy = desk.policy(AUDIT, loose, after=DAY)

    assert (policy.approval, policy.four_eyes) == (True, True)
    assert "settings that cannot be read were replaced" in policy.why
    assert not desk.policy(AUDIT, loose, after=WAITING + DAY).approval


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"[" * 100_000, b'{"purge": [1]}'])
def test_what_was_never_settings_and_has_its_digest_counts_as_strict(desk, body):
    """Whoever writes such an object must neither loosen a purge nor stop it and each seal with an error."""
    loose = desk.table()
    desk.store.put_bytes(f"evidence/public.audit/settings/{hashlib.sha256(body).hexdigest()}.json", body)

    seen = desk.policy(AUDIT, loose)
    desk.kept()
    sealed = desk.policy(AUDIT, loose)

    assert (seen.four_eyes, sealed.four_eyes) == (True, True)
    assert not desk.policy(AUDIT, loose, after=WAITING + DAY).approval


@pytest.mark.parametrize("first", [True, False])
def test_earlier_settings_of_which_no_version_is_left_count_as_strict(desk, object_store, first):
    """An administrator removed them, or a recovery did not find them. What was in force is told by what is missing."""
    if not first:
        desk.kept()
    desk.kept(**BY_PERSON)
    loose = desk.table(sweep_after_days=8)
    desk.kept(sweep_after_days=8)
    strict = desk.table(**BY_PERSON).sha256
    admin, bucket = object_store.client("admin"), desk.store.settings.bucket
    for one in desk.store.versions("evidence/public.audit/settings/"):
        if one.key.endswith(f"{strict}.json"):
            admin.delete_object(Bucket=bucket, Key=one.key, VersionId=one.version_id)

    policy = desk.policy(AUDIT, loose, after=DAY)

    assert (policy.approval, policy.four_eyes) == (True, True)
    assert not desk.policy(AUDIT, loose, after=WAITING + DAY).approval


def test_changes_are_seen_after_the_number_that_its_key_has_room_for(desk):
    """Two installations with other settings of one table change them back and forth, for years."""
    desk.kept()
    desk.store.put_bytes(f"evidence/public.audit/settings/changes/99999-{desk.table().sha256}.json", b"{}")

    desk.kept(**BY_PERSON)

    assert desk.policy(AUDIT, desk.table(), after=WAITING + DAY).approval, "no run has seen it switched off"


@pytest.mark.parametrize(("last", "asks"), [({}, (False, False)), (BY_PERSON, (True, False)), (BY_TWO, (True, True))])
def test_a_table_that_left_the_configuration_goes_on_as_it_was_last(desk, last, asks):
    """For good: it would have to come back and be switched off there."""
    desk.kept(**last)

    for after in (timedelta(), 1000 * DAY):
        policy = desk.policy(AUDIT, after=after)
        assert (policy.approval, policy.four_eyes) == asks
        assert "public.audit is not configured" in policy.why


def test_a_table_that_left_is_also_as_strict_as_any_other_of_the_store(desk):
    """As one that is configured, one that was until lately strict, and one that left, too."""
    for name in ("audit", "calls"):
        desk.kept(name)

    assert desk.policy(AUDIT, desk.table("calls", **BY_TWO)).four_eyes
    assert not desk.policy(AUDIT, desk.table("calls")).approval

    notice_change(desk.store, desk.table("calls", **BY_PERSON))
    notice_change(desk.store, desk.table("calls"))
    assert "of public.calls: purge.require_approval was switched off" in desk.policy(AUDIT, desk.table("calls")).why
    assert not desk.policy(AUDIT, desk.table("calls"), after=WAITING + DAY).approval

    desk.kept("calls", **BY_PERSON)
    assert "the last settings of public.calls had purge.require_approval" in desk.policy(AUDIT).why


def test_a_table_that_nobody_knows_is_asked_about(desk):
    policy = desk.policy(CALLS, desk.table("audit"))

    assert (policy.approval, policy.four_eyes) == (True, True)
    assert policy.why == "public.calls is not configured, and the store has kept no settings of it"


def test_while_settings_of_a_table_are_wrong_each_unknown_table_may_be_it(desk):
    desk.kept()
    settings = Settings(tables={"other": desk.table("other")}, left_out={"another": "a fault"})

    policy = PurgePolicies(settings, desk.store, NOW).of(AUDIT)

    assert (policy.approval, policy.four_eyes) == (True, True)
    assert "it may be one of the tables whose settings are wrong" in policy.why
