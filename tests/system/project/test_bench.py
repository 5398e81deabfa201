"""What the benches compute from measurements. `make bench-scale` itself is not a test."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from xml.etree import ElementTree

import psycopg

from bench import __main__ as bench
from bench import usage
from bench.contenders import vacuum_emptied
from bench.course import TABLE, Course, Result
from bench.goals import Goal
from bench.scale import Month, picture, reckon_goals
from bench.usage import Usage, staging_mb
from strongroom.calendar import Frequency, Partition
from tests.support.database import execute, scalar
from tests.system.helpers import wait_for

SVG = "{http://www.w3.org/2000/svg}"


def a_month(millions: float, seconds: float, **changes) -> Month:
    month = Month(
        rows=int(millions * 1e6),
        parts=2,
        seconds=seconds,
        task="part.extract_to_staging",
        memory_mb=60,
        staging_mb=700,
        under_way_mb=500,
        in_flight_mb=500,
        original_mb=500 * millions,
        client_cpu=1,
        server_cpu=1,
        store_cpu=1,
    )
    return replace(month, **changes)


def missed(months) -> list[str]:
    return [goal.words for goal in reckon_goals(months) if not goal.reached]


def test_blocks_that_wait_for_the_delete_are_not_under_way(tmp_path):
    """Half a megabyte each: the lines and the blocks of one part, and the blocks of a finished part."""
    archive = tmp_path / "public.calls.2026-05.0001"
    archive.mkdir()
    for name in ("part-00000.blocks", "part-00001.lines.zst.partial", "part-00001.blocks"):
        (archive / name).write_bytes(bytes(500_000))

    assert staging_mb(tmp_path) == (1.5, 1.0)


def test_a_goal_is_reached_at_its_bound():
    """Both upper and lower limits include the limit itself."""
    figures = [(Goal("", 1.8, most=1.8), True), (Goal("", 1.81, most=1.8), False), (Goal("", 99, least=100), False)]

    assert [goal.reached for goal, _ in figures] == [reached for _, reached in figures]


def test_the_goals_of_a_race_go_by_its_format_and_its_size():
    """The chain may take so many hundredths of the pipe's time, and not one more."""

    def missed_of(rows: int, format: str, chain: int) -> int:
        course = Course(None, Partition.parse(Frequency.MONTHLY, "2026-05"), rows, original_mb=1000)
        seconds = {"the pipe, unproved": 100, "SqlToS3Operator, no delete": 1000, "Strongroom, plan to report": chain}
        seconds |= {"extract_to_staging": 30, "delete": 10, "Strongroom, restore": 12, "COPY FROM, unproved": 10}
        course.results = [Result(name, rows, Usage(one, one, min(one, 90))) for name, one in seconds.items()]
        course.results[0].usage.server_cpu = 100
        return sum(not goal.reached for goal in bench.reckon_goals(course, format))

    most = {
        (1_000_000, "jsonl"): 160,
        (1_000_000, "parquet"): 180,
        (5_000_000, "jsonl"): 130,
        (5_000_000, "parquet"): 150,
    }

    for (rows, format), seconds in most.items():
        assert (missed_of(rows, format, seconds), missed_of(rows, format, seconds + 1)) == (0, 1)


def test_a_straight_series_with_a_start_of_its_own_reaches_all_goals():
    """Airflow's fixed overhead shifts the line but does not bend it."""
    assert missed([a_month(1, 10 + 15), a_month(5, 10 + 75), a_month(20, 10 + 300)]) == []


def test_what_bends_or_grows_is_named():
    """Time, memory and staging each have their own goal, wherever in the series it is missed."""
    sound = [a_month(1, 25), a_month(5, 85), a_month(20, 310)]

    bent = missed([sound[0], replace(sound[1], seconds=100), sound[2]])
    slower = missed([replace(sound[0], seconds=10), replace(sound[1], seconds=70), replace(sound[2], seconds=295)])
    hungry = missed([sound[0], replace(sound[1], memory_mb=101), sound[2]])
    crowded = missed([sound[0], sound[1], replace(sound[2], under_way_mb=651)])

    assert bent == ["time from 1,000,000 to 20,000,000 rows, farthest from a straight line, share"]
    assert slower == ["time a row, 20,000,000 ÷ 1,000,000 rows"]
    assert hungry == [
        "memory above an empty task, MB, most of all tasks (part.extract_to_staging)",
        "memory, highest less lowest from 1,000,000 to 20,000,000 rows, MB",
    ]
    assert crowded == ["staging of parts under way ÷ their bytes, the worst"]


def test_the_picture_shows_each_month_in_three_panels():
    """It is well-formed, and each point is inside its panel with its figure next to it."""
    months = [a_month(1, 25), a_month(5, 85), a_month(20, 310, memory_mb=171)]

    root = ElementTree.fromstring(picture(months))

    points = list(root.iter(f"{SVG}circle"))
    assert len(points) == 9
    assert all(58 <= float(point.get("cx")) <= 326 and 44 <= float(point.get("cy")) <= 234 for point in points)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"171", "310", "million rows in the month", "seconds", "MB more than an empty task"} <= set(texts)
    assert any(re.match("a straight line: 10 s and 15.0 s a million rows", text) for text in texts)


def test_no_cpu_second_of_a_process_that_just_ended_is_lost(monkeypatch):
    """The parent is read before the child ends, and then the child's file is gone. One pass would miss the child's seconds."""

    def stat(own: int, waited_for: int) -> list[str]:
        return [*["0"] * 11, str(own), "0", str(waited_for), "0"]

    missed = [{1: stat(5, 0)}, {1: stat(5, 100)}]
    looks = iter([*missed, {1: stat(5, 0), 2: stat(100, 0)}, *missed])
    monkeypatch.setattr(usage, "process_tree", lambda roots: next(looks) if roots else {})
    monkeypatch.setattr(usage, "TICKS", 1)

    assert [usage.cpu_seconds([1]), usage.cpu_seconds([1])] == [105, 105]


def test_rows_come_back_into_a_table_without_dead_rows(source):
    """A session that may still see the rows keeps them in the table. The bench waits until a vacuum has removed them."""
    execute(source, f"CREATE TABLE {TABLE} (id integer); INSERT INTO {TABLE} SELECT generate_series(1, 1000)")
    vacuums = "SELECT vacuum_count FROM pg_stat_user_tables"
    with psycopg.connect(source) as reader, psycopg.connect(source, autocommit=True) as connection:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute(f"SELECT FROM {TABLE}")
        execute(source, f"DELETE FROM {TABLE}")

        with ThreadPoolExecutor() as threads:
            vacuumed = threads.submit(vacuum_emptied, connection)
            wait_for(lambda: scalar(source, vacuums) > 1, "a second vacuum")
            early = vacuumed.done()
            reader.rollback()
            vacuumed.result()

    assert (early, scalar(source, f"SELECT pg_relation_size('{TABLE}')")) == (False, 0)
