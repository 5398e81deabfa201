"""What `make bench ARGS=--peers` makes of given figures: a table and a chart. The race itself is not a test."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pyarrow as pa
import pytest
from rich.console import Console

from bench.bars import COLOURS
from bench.comparison import Contender, chart, comparison_table, contenders
from bench.contenders import CHAIN_NAME, OPERATOR_NAME, PIPE_NAME, STEPS_NAME
from bench.course import Result
from bench.late import late_rows_kept
from bench.peers.definitions import PEERS, PROGRAMS
from bench.peers.race import PeerResult, plain_type
from bench.running import run_in_steps, steps_begun
from bench.usage import Laps, Meter, Step, Usage
from strongroom_local.servers.processes import ServerError
from tests.support.repository import REPOSITORY

SVG = "{http://www.w3.org/2000/svg}"
REQUIREMENTS = REPOSITORY / "bench" / "peers" / "requirements.txt"


def a_result(name: str, seconds: float, **changes) -> Result:
    """Of 100,000 rows, with as many CPU seconds as seconds on the client and half as many in the database."""
    return replace(Result(name, 100_000, Usage(seconds, seconds, seconds / 2, 0.0, 64.0), 9.0), **changes)


def own_results() -> list[Result]:
    """What the bench's own contenders took: the pipe 5 s in two steps, Strongroom's steps 10 s together."""
    pipe = a_result(PIPE_NAME, 5, steps=(Step("extract to upload", 4, 6), Step("delete", 1, 1.5)))
    steps = [
        a_result(f"  {name}", seconds) for name, seconds in (("plan", 1), ("extract_to_staging", 6), ("delete", 3))
    ]
    return [pipe, a_result(OPERATOR_NAME, 20), *steps, a_result(CHAIN_NAME, 15, stored_mb=8.0)]


def all_contenders() -> list[Contender]:
    """With one peer that deletes late rows, one that deletes nothing, and one that fails."""
    by_package = {peer.package: peer for peer in PEERS}
    freezer_steps = (Step("start", 1, 1), Step("extract + compress", 6, 8), Step("verify", 1, 1), Step("delete", 2, 2))
    peers = [
        PeerResult(by_package["duckdb"], "DuckDB 1", a_result("DuckDB 1", 4), "decimal(10,2)"),
        PeerResult(
            by_package["pg-freezer"],
            "pg-freezer 1",
            a_result("pg-freezer 1", 10, steps=freezer_steps),
            "double",
            late=0,
        ),
        PeerResult(by_package["dlt"], "dlt 1", None, error="it ended with 1"),
    ]
    return list(contenders(own_results(), peers, {PIPE_NAME: 0, STEPS_NAME: 2}))


def cells() -> dict[str, list[str]]:
    """The printed table by contender."""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparison_table("a title", all_contenders()))
    rows = [re.split(r" *│ *", line.strip("│ ")) for line in console.export_text().splitlines() if line.startswith("│")]
    return {row[0]: row[1:] for row in rows}


def test_the_table_says_what_each_costs_proves_and_deletes():
    """Strongroom's steps are summed up; a contender that fails has no figures but keeps its place."""
    found = cells()

    assert list(found) == [PIPE_NAME, OPERATOR_NAME, STEPS_NAME, CHAIN_NAME, "DuckDB 1", "pg-freezer 1", "dlt 1"]
    figures = ["10.0", "10,000", "10.0", "5.0", "0.0", "64"]
    assert found[STEPS_NAME] == [*figures, "8", "each row", "equal rows only", "kept"]
    assert found["pg-freezer 1"] == [*figures, "9", "row count", "the window", "2 of 2 lost", "double"]
    assert found["DuckDB 1"][7:] == ["nothing", "nothing", "", "decimal(10,2)"]
    assert found["dlt 1"][0] == "failed"


def test_the_chart_stacks_the_steps_of_each_contender():
    """Bars begin where the bar before ends, are as long as their figures say, and a failed contender has none."""
    root = ElementTree.fromstring(chart(100_000, "a machine, a day", all_contenders()))

    bars = [
        (float(rect.get("y")), float(rect.get("x")), float(rect.get("width")), rect[0].text)
        for rect in root.iter(f"{SVG}rect")
        if len(rect)
    ]
    seconds = [bar for bar in bars if bar[1] < 600]
    rows = {y: [bar[1:] for bar in seconds if bar[0] == y] for y in sorted({bar[0] for bar in bars})}
    assert len(rows) == 6
    for row in rows.values():
        assert [x for x, _, _ in row[1:]] == pytest.approx([x + width for x, width, _ in row[:-1]], abs=0.02)
    pipe, operator, steps = list(rows.values())[:3]
    assert sum(width for _, width, _ in pipe) * 4 == pytest.approx(sum(width for _, width, _ in operator), abs=0.1)
    assert [words for _, _, words in steps] == ["start, plan: 1.0 s", "extract: 6.0 s", "delete: 3.0 s"]


def test_no_words_of_the_chart_leave_their_place():
    """By the width of its letters: names end before the bars, everything ends within the picture."""
    root = ElementTree.fromstring(chart(100_000, "a machine, a day", all_contenders()))
    width = float(root.get("width"))
    leftmost_bar = min(float(rect.get("x")) for rect in root.iter(f"{SVG}rect") if len(rect))
    first_rule = min(float(line.get("y1")) for line in root.iter(f"{SVG}line"))

    for text in root.iter(f"{SVG}text"):
        left, length = float(text.get("x")), len(text.text) * float(text.get("font-size")) * 0.54
        assert left + (0 if text.get("text-anchor") == "middle" else length) <= width, text.text
        if left < 100 and float(text.get("y")) > first_rule:
            assert left + length <= leftmost_bar, text.text


def test_the_chart_follows_the_readers_mode():
    """It has a ground and letters of its own for light and for dark, and a legend of exactly the steps that are in it."""
    drawn = chart(100_000, "a machine, a day", all_contenders())

    texts = {text.text for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")}
    assert "prefers-color-scheme: dark" in drawn
    assert {"start, plan", "extract", "extract to upload", "not divided", "verify"} <= texts
    assert not {"seal", "checksum"} & texts


@pytest.mark.parametrize(
    ("package", "line", "step"),
    [
        ("pg-freezer", '{"table": "t", "event": "batch_verifying", "level": "info"}', "verify"),
        ("pg-freezer", '{"row_count": 9, "event": "batch_deleting", "level": "info"}', "delete"),
        ("backparq", "22:56:53 INFO     Exporting public.call_detail_records [2026-07]", "extract + compress"),
        ("duckdb", "step: extract to upload\n", "extract to upload"),
    ],
)
def test_a_step_begins_when_the_log_says_so(package, line, step):
    """Each step has a colour, or the name of one that has."""
    [peer] = [peer for peer in PEERS if peer.package == package]

    assert list(steps_begun(line, peer.marks)) == [step]
    assert {step, *peer.marks.values()} <= COLOURS.keys()


def a_meter(folder: Path) -> Meter:
    """Of this process, as if it were the servers too."""
    return Meter(os.getpid(), os.getpid(), folder)


def test_a_command_is_measured_step_by_step(tmp_path):
    """What it prints divides its time, and the parts make up the whole."""
    usage, steps = run_in_steps(
        ["sh", "-c", "echo 'step: two'; echo words"], {}, a_meter(tmp_path), "one", {"word": "three"}
    )

    assert [step.name for step in steps] == ["one", "two", "three"]
    assert 0 < sum(step.seconds for step in steps) <= usage.seconds


def test_a_command_that_fails_says_what_it_printed_last(tmp_path):
    """Both of its streams."""
    with pytest.raises(ServerError, match="ended with 3") as caught:
        run_in_steps(["sh", "-c", "echo this; echo that >&2; exit 3"], {}, a_meter(tmp_path), "one")

    assert caught.value.found == "this\nthat\n"


def test_a_step_that_comes_back_is_added_up(tmp_path):
    """As with a tool that works through a month part by part."""
    laps = Laps(a_meter(tmp_path), "extract")
    for name in ("upload", "extract", "upload"):
        laps.begin(name)

    assert [step.name for step in laps.end()] == ["extract", "upload"]


@pytest.mark.parametrize(("condition", "kept"), [("true", 0), ("remark IS DISTINCT FROM 'late'", 2)])
def test_late_rows_come_before_the_delete_sees_the_table(source, condition, kept):
    """A DELETE of the window takes both with it, one that compares leaves both."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE call_detail_records (id bigint GENERATED ALWAYS AS IDENTITY, call_start_time int, "
            "answer_time int, duration_seconds int, direction int, calling_number int, called_number int, "
            "presented_number int, imsi int, cell_id int, gateway_ip int, codecs int, charge int, hangup_cause int, "
            "quality int, remark text)"
        )
        connection.execute("INSERT INTO call_detail_records (charge) SELECT generate_series(1, 200)")

    def work() -> None:
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute(f"DELETE FROM call_detail_records WHERE {condition}")

    assert late_rows_kept(source, work) == kept


def test_a_contender_that_deletes_nothing_is_an_error(source):
    """Otherwise it would be praised for what it kept."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE call_detail_records (id int)")

    with pytest.raises(ServerError, match="did not get as far as a DELETE"):
        late_rows_kept(source, lambda: None)


def test_an_extension_type_is_shown_as_what_is_stored():
    """ADBC wraps the text of a numeric."""
    assert plain_type(pa.opaque(pa.string(), "numeric", "PostgreSQL")) == "string"
    assert plain_type(pa.decimal128(10, 2)) == "decimal(10,2)"


def test_each_peer_is_pinned_with_a_reason_and_has_its_program():
    """They are installed from a lock of their own, never from the product's."""
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    lock = REQUIREMENTS.with_suffix(".lock").read_text()

    assert [line for line in lines if not re.fullmatch(r"[\w-]+(\[[\w,-]+\])?==[\w.]+ +# .+", line)] == []
    pinned = {re.split(r"[\[=]", line)[0]: line.split("==")[1].split()[0] for line in lines}
    assert {peer.package for peer in PEERS} <= pinned.keys()
    assert [
        name for name, version in pinned.items() if not re.search(rf"^{name}==?{re.escape(version)}\b", lock, re.M)
    ] == []
    named = {word.partition("/")[2] for peer in PEERS for word in peer.command if word.startswith("{SCRATCH}/")}
    assert {path.name for path in PROGRAMS.iterdir() if path.is_file()} == named
