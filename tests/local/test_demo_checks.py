"""The demo's claims fail when they should: each is checked against a state that contradicts it."""

from __future__ import annotations

from datetime import date

import pytest

from strongroom.errors import ConfigurationError
from strongroom_local.demo.checks import Check, check, check_restored
from strongroom_local.demo.proof import ArchivedObject, Look, Rows
from strongroom_local.demo.run import _read_tables

MAY, JUNE = date(2026, 5, 1), date(2026, 6, 1)
BEFORE = Rows(10, 1000)
ARCHIVED, LEFT, NONE = Rows(8, 900), Rows(2, 100), Rows()


def a_look(*, in_table: Rows = LEFT, archived: Rows = ARCHIVED, in_both: Rows = NONE, **facts: object) -> Look:
    """The state of a month after eight of its ten rows were archived."""
    sound = ArchivedObject("part-00000.jsonl.zst", 1, archived.count, "aa", "aa")
    known = {"table": "audit_events", "month": "2026-06", "outside": 0, "objects": (sound,)}
    return Look(in_table=in_table, archived=archived, in_both=in_both, **{**known, **facts})  # type: ignore[arg-type]


def checks_of(after: Look, *, may_after: int = 5) -> list[Check]:
    """All claims about that month, which had ten rows before. May had five."""
    before = a_look(in_table=BEFORE, archived=NONE)
    return check([before], [after], {"audit_events": {MAY: 5, JUNE: 10}}, {"audit_events": {MAY: may_after, JUNE: 2}})


def faulty(checks: list[Check]) -> list[str]:
    """The first words of the claims that do not hold."""
    return [" ".join(one.claim.split()[:3]) for one in checks if not one.holds]


@pytest.mark.parametrize(
    ("after", "claims"),
    [
        (a_look(), []),
        (a_look(in_table=Rows(1, 50)), ["every row is", "each archived row"]),
        (a_look(archived=Rows(8, 901)), ["each archived row"]),
        (a_look(in_table=BEFORE, in_both=ARCHIVED), ["no archived row"]),
        (a_look(outside=1), ["no row of"]),
        (a_look(objects=(ArchivedObject("part", 1, 8, "aa", "bb"),)), ["the objects in"]),
    ],
    ids=["all well", "a row is lost", "a row is another", "nothing was deleted", "rows of May", "a damaged object"],
)
def test_a_claim_that_is_not_true_does_not_hold(after, claims):
    """Each fault breaks the claims about it and no others."""
    assert faulty(checks_of(after)) == claims


def test_rows_that_were_restored_and_are_needed_break_no_claim():
    """They are both in the table and in an archive. The numbers say so, and count each row once."""
    checks = checks_of(a_look(in_table=BEFORE, in_both=ARCHIVED, needed=True))

    assert faulty(checks) == []
    assert checks[0].numbers == "10 before = 2 left + 8 in archives"
    assert checks[2].numbers == "8 keys looked up, 8 were restored and are needed there"


def test_another_month_may_gain_rows_but_lose_none():
    """A restore from an earlier demo may finish meanwhile."""
    assert faulty(checks_of(a_look(), may_after=6)) == []
    assert faulty(checks_of(a_look(), may_after=4)) == ["no row of"]


@pytest.mark.parametrize(
    ("restored", "again", "inserted", "claims"),
    [
        (BEFORE, BEFORE, 0, []),
        (Rows(9, 900), Rows(9, 900), 0, ["the month is"]),
        (Rows(10, 1001), Rows(10, 1001), 0, ["the month is"]),
        (BEFORE, Rows(11, 1100), 1, ["restoring it again"]),
        (BEFORE, Rows(10, 1001), 0, ["restoring it again"]),
    ],
    ids=["all well", "a row is missing", "a row is another", "a row came twice", "a row was changed"],
)
def test_a_restore_that_is_not_exact_does_not_hold(restored, again, inserted, claims):
    """The month is compared with its state before archiving, and with its state after the second restore."""
    before = a_look(in_table=BEFORE, archived=NONE)

    assert faulty(check_restored(before, restored, again, inserted)) == claims


@pytest.mark.parametrize(("name", "value"), [("FORMAT", "parquet"), ("FREQUENCY", "weekly")])
def test_settings_that_the_demo_cannot_show_are_named_before_it_starts(monkeypatch, name, value):
    monkeypatch.setenv(f"STRONGROOM__{name}", value)

    with pytest.raises(ConfigurationError, match=value) as refused:
        _read_tables()

    assert refused.value.hint.startswith("Nothing was started")
