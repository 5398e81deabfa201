"""`airflow strongroom list`, `catalog`, `show` and `verify`, as a user types them, on a real store."""

from __future__ import annotations

import json

import psycopg

from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from tests.support.damaging import Vandal
from tests.support.erasing import supersede

ARCHIVE = "public.audit.2026-05.0001"


def test_list_names_each_archive_on_a_narrow_terminal_and_as_json(chain, airflow, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    table = airflow("strongroom", "list")
    document = airflow("strongroom", "list", "audit", "--json")

    assert (table.returncode, document.returncode) == (0, 0), table.stderr + document.stderr
    assert ARCHIVE in table.stdout
    [entry] = json.loads(document.stdout)
    assert (entry["archive_id"], entry["record_count"], entry["parts"]) == (ARCHIVE, 500, 1)


def test_show_tells_the_sums_and_what_became_of_the_rows(chain, airflow):
    manifest = require_manifest(chain.store, ArchiveId.parse(ARCHIVE))

    shown = airflow("strongroom", "show", ARCHIVE)
    document = json.loads(airflow("strongroom", "show", ARCHIVE, "--json").stdout)

    assert manifest.parts[0].sha256 in shown.stdout
    assert document["manifest"]["checksum"] == manifest.checksum
    assert [deleted["deleted"] for deleted in document["deletions"]] == [500]


def test_a_manifest_that_somebody_forged_cannot_command_the_terminal_of_who_looks_at_it(chain, airflow):
    chain.settings = chain.settings.model_copy(update={"legal_basis": "law \x1b[2J\x1b]0;owned\x07"})
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute("INSERT INTO audit VALUES (501, '2026-05-02')")
    chain.run()

    shown = airflow("strongroom", "show", "public.audit.2026-05.0002")

    assert (shown.returncode, "\x1b" in shown.stdout) == (0, False), shown.stderr
    assert "law \N{REPLACEMENT CHARACTER}[2J" in shown.stdout


def test_verify_says_sound_and_names_a_damaged_object(chain, airflow, object_store, bucket):
    """The archiver cannot overwrite; an administrator's slip puts other bytes in place of SHA256SUMS."""
    sound = airflow("strongroom", "verify", ARCHIVE)
    sums_key = ArchiveId.parse(ARCHIVE).sums_key
    object_store.client("admin").put_object(Bucket=bucket, Key=sums_key, Body=b"slip")

    damaged = airflow("strongroom", "verify", ARCHIVE, "--json")

    assert (sound.returncode, damaged.returncode) == (0, 1), sound.stderr + damaged.stderr
    assert "is sound" in sound.stdout
    verdicts = {one["object_key"]: one["result"] for one in json.loads(damaged.stdout)["objects"]}
    assert verdicts[sums_key] == "corrupted"
    assert set(verdicts.values()) == {"sound", "corrupted"}


WRONG_ARGUMENTS = [
    (("verify", "public.audit.2026-05.0009"), "there is no archive"),
    (("show", "nonsense"), "is not an archive id"),
    (("list", "nope"), "is not configured"),
    (("verify",), "needs exactly one of an archive id, --all and --sample"),
    (("verify", "--sample", "2/1"), "is not a sample"),
    (("archive", "audit"), "needs a table and either --partition or --before; or --plan"),
]


def test_wrong_arguments_end_in_one_error_with_a_hint(chain, airflow, subtests):
    for arguments, said in WRONG_ARGUMENTS:
        with subtests.test(arguments=arguments):
            ended = airflow("strongroom", *arguments)

            assert ended.returncode == 1
            assert said in ended.stderr
            assert "HINT:" in ended.stderr
            assert "Traceback" not in ended.stderr


def test_wrong_keys_of_the_store_are_told_without_the_keys(chain, airflow, monkeypatch):
    wrong = {"conn_type": "aws", "login": "nobody", "password": "marked-secret"}  # pragma: allowlist secret
    monkeypatch.setenv("AIRFLOW_CONN_STRONGROOM_STORE", json.dumps(wrong))

    ended = airflow("strongroom", "list")

    assert ended.returncode == 1
    assert "the store refused to read" in ended.stderr
    assert "marked-secret" not in ended.stderr + ended.stdout


def test_catalog_selects_by_prefix_partition_and_age_and_names_what_is_damaged(chain, airflow, object_store, bucket):
    """May 2026 ended less than a hundred years ago, and more than a day."""

    def listed(*options: str) -> list[str]:
        ended = airflow("strongroom", "catalog", *options, "--json")
        assert ended.returncode == 0, ended.stderr
        return [entry["archive_id"] for entry in json.loads(ended.stdout)]

    assert listed("--prefix", "public.aud", "--partition", "2026", "--older-than", "P1D") == [ARCHIVE]
    assert listed("--older-than", "P100Y") == listed("--prefix", "warm.") == []

    object_store.client("admin").put_object(Bucket=bucket, Key=ArchiveId.parse(ARCHIVE).manifest_key, Body=b"{}")
    stray = "metadata/public.audit/2026-99/public.audit.2026-99.0001.json"
    object_store.client("admin").put_object(Bucket=bucket, Key=stray, Body=b"{}")
    damaged = airflow("strongroom", "catalog", "--rebuild-index")

    assert damaged.returncode == 1
    assert f"{ARCHIVE} has a damaged manifest: expected one version of it, found 2 versions" in damaged.stdout
    assert f"{stray} is not a manifest and was ignored" in " ".join(damaged.stdout.split())


def test_verify_reads_all_archives_or_a_sample_and_names_what_is_unverifiable(chain, airflow, object_store, bucket):
    sound = airflow("strongroom", "verify", "--sample", "1/10", "--json")
    object_store.client("admin").put_object(Bucket=bucket, Key=ArchiveId.parse(ARCHIVE).manifest_key, Body=b"{}")

    unverifiable = airflow("strongroom", "verify", "--all")

    assert [(one["archive_id"], one["result"]) for one in json.loads(sound.stdout)] == [(ARCHIVE, "sound")]
    assert unverifiable.returncode == 1
    assert f"unverifiable {ARCHIVE}" in unverifiable.stdout
    records = [key.rpartition("-")[2] for key in chain.store.keys("reports/verifications/")]
    assert records == ["sound.json", "unverifiable.json"]


def test_verify_of_all_archives_names_one_whose_manifest_somebody_hid(chain, airflow, object_store, bucket):
    object_store.client("admin").delete_object(Bucket=bucket, Key=ArchiveId.parse(ARCHIVE).manifest_key)

    ended = airflow("strongroom", "verify", "--all", "--json")

    assert ended.returncode == 1
    [verdict] = json.loads(ended.stdout)
    assert (verdict["result"], verdict["archive_id"]) == ("unverifiable", ARCHIVE)
    assert verdict["problem"].endswith("found a delete marker that hides it")


def test_a_dry_run_of_archive_says_how_many_rows_of_each_month_wait(chain, airflow, deployment):
    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute("INSERT INTO audit SELECT n, '2026-04-02' FROM generate_series(1001, 2234) AS n")
        connection.execute("INSERT INTO audit VALUES (5000, '2026-05-02')")
    deployment.database(chain.conninfo, "source")

    before = airflow("strongroom", "archive", "audit", "--before", "2026-06-01", "--dry-run")
    named = airflow("strongroom", "archive", "audit", "--partition", "2026-03", "2026-04", "--dry-run", "--json")

    assert "It would be 2026-04 (1,234 rows wait), 2026-05 (1 rows wait)." in before.stdout, before.stderr
    assert json.loads(named.stdout) == [
        {"table": "audit", "partition_key": "2026-03", "rows": 0},
        {"table": "audit", "partition_key": "2026-04", "rows": 1234},
    ]


def test_condemn_gives_up_an_archive_only_when_a_part_of_it_is_gone(chain, airflow, object_store, bucket):
    refused = airflow("strongroom", "condemn", ARCHIVE, "--why", "a whim")
    vandal = Vandal(object_store.client("admin"), chain.store, bucket)
    vandal.remove(ArchiveId.parse(ARCHIVE).part_key(0, "zstd"))

    condemned = airflow("strongroom", "condemn", ARCHIVE, "--why", "the disk died", "--who", "ada")
    again = airflow("strongroom", "condemn", ARCHIVE, "--why", "again", "--json")

    assert (refused.returncode, condemned.returncode, again.returncode) == (1, 0, 0), condemned.stderr + again.stderr
    assert "each part of it is there and sound" in refused.stderr
    said = " ".join(condemned.stdout.split())
    assert f"Condemned {ARCHIVE} (missing)" in said
    assert "500 rows of the damaged parts had been deleted from the table" in said
    document = json.loads(again.stdout)
    assert (document["who"], document["why"], document["lost_rows"]) == ("ada", "the disk died", 500)


def test_bucket_lock_counts_what_is_not_locked_and_locks_it_once(chain, airflow, monkeypatch):
    off = airflow("strongroom", "bucket", "lock")
    monkeypatch.setenv("STRONGROOM__STORE__OBJECT_LOCK", "governance")

    before, locked, after = (
        airflow("strongroom", "bucket", "lock", *options, "--json") for options in (("--dry-run",), (), ("--dry-run",))
    )

    assert "store.object_lock is off" in off.stdout
    assert (before.returncode, locked.returncode, after.returncode) == (1, 0, 0)
    counts = [json.loads(each.stdout)["public.audit"] for each in (before, locked, after)]
    assert counts[0] == counts[1] == 4  # a part, SHA256SUMS, the manifest and its copy
    assert counts[2] == 0


def test_list_counts_rows_of_a_superseded_archive_once_and_verify_reads_both(chain, airflow, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    supersede(chain, ArchiveId.parse(ARCHIVE), "id", "7")

    listed = airflow("strongroom", "list")
    every = airflow("strongroom", "verify", "--all", "--json")

    assert (listed.returncode, every.returncode) == (0, 0), listed.stderr + every.stderr
    assert "1 archive, 499 rows" in listed.stdout
    waits = "is superseded by public.audit.2026-05.0002 and not counted; it is removed when the cooling-off of case DSR-7 is over"
    assert f"{ARCHIVE} {waits}" in " ".join(listed.stdout.split())
    assert [verdict["archive_id"] for verdict in json.loads(every.stdout)] == [ARCHIVE, "public.audit.2026-05.0002"]
