"""Finding archives by words."""

from __future__ import annotations

import pytest

from strongroom.ledger.holds import Hold
from strongroom.ledger.index import DamagedManifest
from strongroom.overview.facts import StoreFacts
from strongroom.overview.search import MOST, Found, search
from tests.support.chain import NOW
from tests.support.counting import count_calls
from tests.support.overview import an_archive, many_archives, store_facts

APRIL, MAY = (an_archive("audit_events", key) for key in ("2026-04", "2026-05"))
CALLS = an_archive("calls", "2026-05", run_id="scheduled__2026-09-01T02:00:00+00:00", dag_id="archive__calls")


def some_facts(**changes) -> StoreFacts:
    """Two months of one table and one of another, a damaged manifest, a destroyed archive, a hold."""
    hold = Hold(
        hold_id="20261123T120000Z-0badcafe",
        what="public.calls.2026-05",
        why="fraud case",
        who="ada",
        reference="EFCC/2026/17",
        placed_at=NOW,
    )
    given = {
        "damaged": (DamagedManifest(archive_id="public.calls.2026-06.0001", problem="p"),),
        "destroyed": ("public.calls.2019-05.0001",),
        "holds": (hold,),
    }
    return store_facts(APRIL, MAY, CALLS, **given | changes)


def ids(found: Found) -> list[str]:
    return [one.archive_id for one in found.archives.shown]


def found_by(text: str) -> list[str]:
    """The archives that are found by words, without the schema and the sequence."""
    return [name.removeprefix("public.").removesuffix(".0001") for name in ids(search(some_facts(), text))]


@pytest.mark.parametrize(
    ("text", "archives"),
    [
        ("calls", ["calls.2026-05"]),
        ("PUBLIC.Audit", ["audit_events.2026-05", "audit_events.2026-04"]),
        ("public.calls.2026-05.0001", ["calls.2026-05"]),
        ("2026", ["calls.2026-05", "audit_events.2026-05", "audit_events.2026-04"]),
        ("2026-05", ["calls.2026-05", "audit_events.2026-05"]),
        ("2026-05-31", ["calls.2026-05", "audit_events.2026-05"]),
        ("2026-w18", ["calls.2026-05", "audit_events.2026-05", "audit_events.2026-04"]),
        ("2026-04-30T23:59", ["audit_events.2026-04"]),
        ("2026-05-01T00", ["calls.2026-05", "audit_events.2026-05"]),
        ("2026-05-01T00:30:00+02:00", ["audit_events.2026-04"]),
        ("2026-04-30t23:59:59z", ["audit_events.2026-04"]),
        ("2026-03..2026-04", ["audit_events.2026-04"]),
        ("2026-04..2026-03", ["audit_events.2026-04"]),
        ("..2026-04-30", ["audit_events.2026-04"]),
        ("2026-05-17..", ["calls.2026-05", "audit_events.2026-05"]),
        ("2026-05-01T00:00..2026-05-02", ["calls.2026-05", "audit_events.2026-05"]),
        ("2026-05 audit", ["audit_events.2026-05"]),
        ("audit calls", []),
        ("scheduled__2026-09-01T02:00:00+00:00", ["calls.2026-05"]),
        ("archive__calls 2026-05", ["calls.2026-05"]),
        ("2027", []),
        ("2026-13", []),
        ("2026-05..x", []),
        ("..", []),
        ("%", []),
        ("", []),
        ("   ", []),
    ],
)
def test_a_word_is_a_table_a_time_a_run_or_an_archive_and_several_narrow(text, archives):
    assert found_by(text) == archives


def test_a_checksum_of_a_part_or_of_the_sums_is_found_by_eight_digits_or_more():
    for digest in MAY.sums:
        for text in (digest, digest[:8], digest[:8].upper()):
            assert found_by(text) == ["audit_events.2026-05"], text

    assert found_by(MAY.sums[0][:7]) == []
    assert found_by(f"{MAY.sums[0]}0") == []
    assert found_by(MAY.sums[0][1:]) == []


def test_damaged_and_destroyed_archives_are_found_by_id_table_and_time():
    """Nobody knows more of them."""
    facts = some_facts()

    for text in ("public.calls.2019-05.0001", "2019-05-17", "calls 2019"):
        [destroyed] = search(facts, text).destroyed.shown
        assert (destroyed.table, destroyed.partition_key) == ("public.calls", "2019-05"), text
    [damaged] = search(facts, "calls 2026-06").damaged.shown
    assert (damaged.archive_id, damaged.problem) == ("public.calls.2026-06.0001", "p")


@pytest.mark.parametrize("text", ["20261123T120000Z-0badcafe", "efcc/2026/17", "public.calls", "0badcafe"])
def test_a_hold_is_found_by_its_id_its_reference_and_what_it_covers(text):
    assert [one.reference for one in search(some_facts(), text).holds.shown] == ["EFCC/2026/17"]


def test_a_hold_is_not_found_by_a_time_or_another_table():
    assert not search(some_facts(), "2026-05").holds
    assert not search(some_facts(), "audit").holds


def test_a_hold_on_everything_is_found_by_its_words():
    hold = some_facts().holds[0].model_copy(update={"what": "*"})

    assert search(some_facts(holds=(hold,)), "everything").holds.shown == (hold,)


def test_words_may_name_a_run_unless_one_of_them_is_a_time():
    assert search(some_facts(), "manual__ Ada").run_words == ("manual__", "ada")
    assert search(some_facts(), "manual__ 2026-05").run_words == ()


def test_the_newest_are_shown_and_the_others_counted():
    facts = store_facts(*many_archives(130))

    found = search(facts, "public")

    assert (len(found.archives.shown), found.archives.more) == (MOST, 130 - MOST)
    starts = [one.window_start for one in found.archives.shown]
    assert starts == sorted(starts, reverse=True)
    assert search(facts, "public", most=200).archives.more == 0


def test_names_of_any_characters_are_found_as_they_are_spelt_in_the_database():
    facts = store_facts(
        destroyed=("public.my%20table.2019-05.0001",),
        damaged=(DamagedManifest(archive_id="public.my%20table.2019-06.0001", problem="p"),),
    )

    found = search(facts, "table")

    assert [one.table for one in (*found.destroyed.shown, *found.damaged.shown)] == ["public.my table"] * 2


def test_ten_times_as_many_archives_are_ten_times_the_work():
    few, many = store_facts(*many_archives(100)), store_facts(*many_archives(1000))

    for text in ("t005 2020-05", "deadbeef", "2019..2020", "manual__test"):
        small, large = (count_calls(lambda facts=facts, text=text: search(facts, text)) for facts in (few, many))
        assert large < 11 * small, text
