"""Which archives a drill takes: a sample that anybody can recompute."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from datetime import datetime, timezone

from strongroom.drill.choose import choose
from strongroom.drill.records import Candidate
from strongroom.settings import DrillSettings

SEED = bytes(range(32))


def a_candidate(table: str, month: int, **changes) -> Candidate:
    given = {
        "archive_id": f"public.{table}.2026-{month:02}.0001",
        "table": f"public.{table}",
        "window_end": datetime(2026, month, 28, tzinfo=timezone.utc),
        "original_size_bytes": 1000,
        "format": "jsonl",
        "server_version": "18",
    }
    return Candidate(**{**given, **changes})


def names(choices) -> dict[str, tuple[str, ...]]:
    return {one.archive_id: one.reasons for one in choices}


CALLS = [a_candidate("calls", month, original_size_bytes=9000 if month == 5 else month) for month in range(1, 13)]
EVENTS = [
    a_candidate("events", 1, server_version="15"),
    a_candidate("events", 2, format="parquet"),
    a_candidate("events", 3),
]


def test_each_table_gives_its_newest_oldest_and_largest_and_the_store_each_format_and_version():
    choices, skips = choose([*CALLS, *EVENTS], SEED, {"public.calls": DrillSettings(random=0)})

    found = names(choices)
    assert found["public.calls.2026-12.0001"][0] == "newest"
    assert found["public.calls.2026-01.0001"][0] == "oldest"
    assert found["public.calls.2026-05.0001"][0] == "largest"
    assert {"oldest", "server 15"} <= set(found["public.events.2026-01.0001"])
    assert "format parquet" in found["public.events.2026-02.0001"]
    assert skips == []


def test_the_choice_is_the_same_in_whatever_order_the_archives_are_listed():
    assert choose([*CALLS, *EVENTS], SEED, {}) == choose([*EVENTS[::-1], *CALLS[::-1]], SEED, {})


def test_a_few_lines_of_anybody_recompute_what_was_drawn():
    """As docs/howto/restore-drills.md shows: the SHA-256 of the seed and the id, and the lowest are taken."""
    choices, _ = choose(CALLS, SEED, {"public.calls": DrillSettings(random=3)})

    drawn = sorted(CALLS, key=lambda one: hashlib.sha256(SEED + one.archive_id.encode()).hexdigest())[:3]
    assert {one.archive_id for one in drawn} == {one for one, why in names(choices).items() if "random" in why}


def test_a_shell_recomputes_it_too(tmp_path):
    """The commands of the page for auditors, with nothing but coreutils."""
    (tmp_path / "ids").write_text("".join(f"{one.archive_id}\n" for one in CALLS))
    script = """
    while read -r id; do
        printf '%s %s\\n' "$({ printf %s "$SEED" | base64 -d; printf %s "$id"; } | sha256sum | cut -c 1-64)" "$id"
    done < ids | sort | head -n 3 | cut -d ' ' -f 2
    """
    seed = base64.b64encode(SEED).decode()
    told = subprocess.run(["bash", "-c", script], cwd=tmp_path, env={"SEED": seed, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)  # fmt: skip

    choices, _ = choose(CALLS, SEED, {"public.calls": DrillSettings(random=3)})

    assert set(told.stdout.split()) == {one for one, why in names(choices).items() if "random" in why}


def test_another_seed_draws_others_and_takes_the_same_newest():
    first, second = (names(choose(CALLS, bytes([seed]) * 32, {})[0]) for seed in (1, 2))

    assert {one for one, why in first.items() if "random" in why} != {one for one, why in second.items() if "random" in why}  # fmt: skip
    assert "newest" in second["public.calls.2026-12.0001"]


def test_what_is_too_large_is_named_and_the_next_one_is_taken():
    choices, skips = choose(CALLS, SEED, {"public.calls": DrillSettings(random=0, most_bytes=8999)})

    assert "largest" in names(choices)["public.calls.2026-12.0001"]
    [skip] = skips
    assert skip.archive_id == "public.calls.2026-05.0001"
    assert "9,000 bytes before compression, more than drill.most_bytes, 8,999" in skip.reason


def test_a_store_without_archives_gives_no_choice():
    assert choose([], SEED, {}) == ([], [])


def test_archives_that_were_sealed_together_are_drilled_together():
    """Whichever is chosen brings the others; one that is too large stays out, and is named."""
    ids = [f"public.{table}.2026-03.0001" for table in ("events", "notes", "pictures")]
    unit = {one: {"unit": tuple(other for other in ids if other != one)} for one in ids}
    events = [a_candidate("events", month) for month in (1, 2, 4, 5)]
    of_unit = [
        a_candidate("events", 3, original_size_bytes=2000, **unit[ids[0]]),
        a_candidate("notes", 3, **unit[ids[1]]),
        a_candidate("pictures", 3, **(unit[ids[2]] | {"original_size_bytes": 10**15})),
    ]
    others = [a_candidate("notes", month, original_size_bytes=5000 + month) for month in (1, 2, 4, 5)]

    choices, skips = choose([*events, *of_unit, *others], SEED, {"public.notes": DrillSettings(random=0)})

    found = names(choices)
    assert "largest" in found[ids[0]]
    assert found[ids[1]] == (f"unit of {ids[0]}",)
    assert [one.archive_id for one in skips] == [ids[2]]
    assert ids[2] not in found
