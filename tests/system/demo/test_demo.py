"""`make demo` as a newcomer runs it. SQL and boto3 check its claims."""

from __future__ import annotations

import psycopg

from strongroom.calendar import Frequency, Partition
from strongroom.settings import load_settings
from strongroom_local.demo.later import RESTORED_TABLE
from strongroom_local.demo.proof import look_at
from strongroom_local.servers.stack_folder import BUCKET
from tests.system.demo.looking import count_rows, keys_left, read_archives
from tests.system.sample_rows import ROWS_A_MONTH, keys_archived, keys_of_month


def test_output_without_a_terminal_is_plain_lines(demonstration):
    """No control codes and no redrawn lines. A newcomer reads first what will happen and last what to do."""
    output = demonstration.output

    assert "\x1b" not in output
    assert "\r" not in output
    assert output.startswith("Strongroom demo")
    assert "Three things to try" in output
    assert "'make down' stops everything" in output.splitlines()[-2]


def test_the_last_line_is_the_address_of_the_archive_in_airflows_ui(source_only, demonstration):
    """And both users are named before it: who may do everything, and who may look."""
    *_, last = demonstration.output.splitlines()

    assert last.endswith(f" {source_only.api_url}/plugin/archive/strongroom/archive")
    for user in ("admin", "viewer"):
        assert f"user {user}, password {source_only.password(user)}" in demonstration.output


def test_every_row_is_in_its_table_or_in_an_archive(source_only, demonstration):
    """For each table and month, the sample's rows are the rows left plus the archived ones. No row is in both."""
    result = demonstration.result

    assert len(result["months"]) == 2
    for table, made in ROWS_A_MONTH.items():
        for month in result["months"]:
            left, archived = keys_left(source_only, result, table, month), keys_archived(source_only, table, month)
            assert len(archived) == len(set(archived)), (table, month)
            assert not left & set(archived), (table, month)
            assert len(left) + len(archived) == made, (table, month)


def test_the_result_says_what_sql_and_s3_say(source_only, demonstration):
    """demo.json has a line for each table and month. Its rows, objects and checksums match what SQL and S3 show."""
    result = demonstration.result

    assert result["proved"]
    assert result["evidence"]["verdict"] == "proved", result["evidence"]
    assert all(check["holds"] for check in result["checks"])
    assert [(line["table"], line["month"]) for line in result["archives"]] == [
        (table, month) for table in ROWS_A_MONTH for month in result["months"]
    ]
    for line in result["archives"]:
        objects = read_archives(source_only, line["table"], line["month"])
        assert line["left_rows"] == len(keys_left(source_only, result, line["table"], line["month"]))
        assert line["archived_rows"] == len(keys_archived(source_only, line["table"], line["month"]))
        assert line["objects"] == list(objects)
        assert line["compressed_size_bytes"] == sum(map(len, objects.values()))
        stayed = line["left_because"]
        assert line["left_rows"] == sum(one["rows"] for one in stayed["excluded"]) + stayed["referenced"]


def test_a_month_comes_back_and_only_once(source_only, demonstration):
    """Every row of the sample is in the table again, the second restore inserted none, and the archive still exists."""
    result = demonstration.result
    table, month, runs = (result["restore"][name] for name in ("table", "month", "runs"))

    archived = keys_archived(source_only, table, month)

    assert (table, month) == (RESTORED_TABLE, result["months"][-1])
    assert [(run["inserted"], run["unchanged"], run["different"]) for run in runs] == [
        (len(archived), 0, 0),
        (0, len(archived), 0),
    ]
    assert keys_of_month(source_only.source_conninfo(), table, month) >= set(archived)
    assert count_rows(source_only, table, month) == ROWS_A_MONTH[table]
    assert "restoring it again changes nothing: 0 rows inserted" in demonstration.output


def test_a_look_knows_rows_that_were_restored_and_are_needed(source_only, demonstration):
    """They are in the table and in the archive, and the next demo does not report that as a fault."""
    result = demonstration.result
    settings = load_settings().table(result["restore"]["table"])
    partition = Partition.parse(Frequency.MONTHLY, result["restore"]["month"])

    with psycopg.connect(source_only.source_conninfo(), autocommit=True) as connection:
        look = look_at(connection, source_only.object_store.client("archiver"), settings, partition, bucket=BUCKET)

    assert look.needed
    assert look.in_both == look.archived
    assert look.all == look.in_table


def test_the_statistics_tell_what_lies_in_the_store(source_only, demonstration):
    """Archives and rows match what S3 shows, and the page exists."""
    output, result = demonstration.output, demonstration.result
    statistics = result["statistics"]

    page = source_only.object_store.client("archiver").get_object(
        Bucket=BUCKET, Key=statistics["page"].removeprefix(f"s3://{BUCKET}/")
    )

    assert statistics["total"]["archives"] == len(result["archives"])
    assert {one["table"].removeprefix("public."): one["rows"] for one in statistics["tables"]} == {
        table: sum(len(keys_archived(source_only, table, month)) for month in result["months"])
        for table in ROWS_A_MONTH
    }
    assert b"<html" in page["Body"].read()
    assert statistics["page"] in output


def test_the_purge_is_foretold_and_removes_nothing(source_only, demonstration):
    """Today no archive is due. Seven years after the newest month all of the demo's archives are. All still exist."""
    output, result = demonstration.output, demonstration.result
    today, day = result["purge_dry_run"]
    year, month = map(int, result["months"][-1].split("-"))
    end = f"{year + 7 + month // 12}-{month % 12 + 1:02}-01"

    archives = sorted(line["archive_id"] for line in result["archives"])

    assert (today["would_destroy"], today["reasons"]) == ([], {"kept": len(archives)})
    assert (sorted(day["would_destroy"]), day["at"][:10]) == (archives, end)
    assert f"{end}  {len(archives)} expired" in output
    assert all(read_archives(source_only, line["table"], line["month"]) for line in result["archives"])


def test_no_other_month_has_lost_a_row(source_only, demonstration):
    """Full months that were not archived, including those in hot retention, have every row of the sample."""
    result = demonstration.result
    with psycopg.connect(source_only.source_conninfo()) as connection:
        made = connection.execute("SELECT DISTINCT month FROM strongroom_sample.progress ORDER BY month").fetchall()
    months = [f"{month:%Y-%m}" for (month,) in made[:-1]]

    untouched = [month for month in months if month not in result["months"]]

    assert len(untouched) >= 11
    for table, rows in ROWS_A_MONTH.items():
        for month in untouched:
            assert len(keys_of_month(source_only.source_conninfo(), table, month)) == rows, (table, month)
