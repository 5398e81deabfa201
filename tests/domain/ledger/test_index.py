"""Lists of thousands of archives, and archives read again, on a real S3 server."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from strongroom.errors import IntegrityError
from strongroom.ledger.index import each_once, read_manifests, stray_keys, survey_manifests, write_index
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.layout import MANIFEST_INDEX, SOURCE_IDENTITY
from strongroom.settings import Settings, StoreSettings
from strongroom.statistics.figures import make_statistics
from strongroom.statistics.keep import keep_statistics
from strongroom.statistics.page import make_page
from strongroom.statistics.proofs import read_proofs, verify_and_record, verify_archives
from strongroom.storage import s3
from strongroom.storage.store import Store
from tests.support.chain import NOW, Chain, some_settings
from tests.support.counting import count_calls
from tests.support.damaging import Vandal
from tests.support.sealing import seal_month
from tests.support.synthetic import a_manifest, many_manifests, put_manifests


@pytest.fixture
def store(object_store, bucket) -> Store:
    return Store(object_store.client("archiver"), StoreSettings(bucket=bucket))


@pytest.mark.parametrize(("archives", "page"), [(120, 100), pytest.param(1200, 1000, marks=pytest.mark.exhaustive)])
def test_more_archives_than_a_page_has_are_listed_and_the_index_saves_the_reading(
    store, object_store, bucket, monkeypatch, archives, page
):
    monkeypatch.setattr(s3, "PAGE_KEYS", page)
    put_manifests(store, many_manifests(archives))
    first = survey_manifests(store)
    write_index(store, first)
    asked: list[str] = []
    store.client.meta.events.register("before-send.s3", lambda event_name, **_: asked.append(event_name))

    second = survey_manifests(store)
    requests = len(asked)
    one_table = survey_manifests(store, "public", "t001")

    assert (len(first.manifests), first.read) == (archives, archives)
    assert (second.manifests, second.read) == (first.manifests, 0)
    assert requests <= 5  # the owner, two pages of manifests, one of evidence, the index
    assert [one.archive_id for one in one_table.manifests] == [
        f"public.t001.{_month(n)}.0001" for n in range(min(100, archives - 100))
    ]

    # What was purged, sealed or damaged since is seen although the index does not know of it.
    vandal = Vandal(object_store.client("admin"), store, bucket)
    gone, damaged = (ArchiveId("public", "t000", key, 1).manifest_key for key in ("2018-01", "2018-02"))
    vandal.remove(gone)
    vandal.replace(damaged, b"{}")
    put_manifests(store, iter([a_manifest("t000", "2026-05")]))

    third = survey_manifests(store)

    assert (len(third.manifests), third.read) == (archives - 1, 2)
    assert [one.archive_id for one in third.damaged] == ["public.t000.2018-02.0001"]
    with pytest.raises(IntegrityError, match="not a sound manifest"):
        list(read_manifests(store, "public", "t000"))


def test_a_listing_names_each_manifest_that_is_not_as_it_was_written_and_asks_for_none_of_them(
    store, object_store, bucket, tmp_path
):
    """Versions and evidence are listed for all of them together."""
    settings, vandal = some_settings(bucket, tmp_path), Vandal(object_store.client("admin"), store, bucket)
    months = {month: seal_month(store, settings, f"2026-0{month}") for month in range(1, 8)}
    for archive in months.values():
        store.put_bytes(archive.delete_evidence_key(0), b"{}")
    vandal.hide(months[1].manifest_key)
    vandal.write(months[2].manifest_key, vandal.read(months[2].manifest_key))
    vandal.write(months[3].seal_key, b"{}")
    vandal.remove(months[4].manifest_key)
    store.put_bytes(months[5].destruction_key, b"{}")
    vandal.remove(months[6].manifest_key)
    store.put_bytes(months[6].purge_intent_key, b"{}")
    stray = "metadata/public.audit/2026-99/public.audit.2026-99.0001.json"
    store.put_bytes(stray, b"{}")

    survey = survey_manifests(store)

    assert [one.archive_id for one in survey.manifests] == [str(months[7])]
    assert {one.archive_id: one.problem.split(", of which")[0] for one in survey.damaged} == {
        str(months[1]): "expected one version of it, found a delete marker that hides it",
        str(months[2]): "expected one version of it, found 2 versions",
        str(months[3]): f"expected one version of its copy {months[3].seal_key}, found 2 versions",
        str(months[4]): f"it is gone, and rows were deleted because of it; its copy is {months[4].seal_key}",
        str(months[5]): f"it was destroyed ({months[5].destruction_key}), and somebody has put it back since",
    }
    assert (survey.strays, survey.read) == ((stray,), 1)
    assert SOURCE_IDENTITY in store.keys("metadata/")
    assert stray_keys(store, "public", "audit") == (stray,)


def test_an_archive_to_which_two_addresses_lead_is_told_once(store):
    put_manifests(store, iter([a_manifest()]))

    first, second = each_once([survey_manifests(store), survey_manifests(store)])

    assert (len(first.manifests), len(second.manifests)) == (1, 0)


def test_a_second_look_reads_only_what_is_new_and_sees_what_is_hidden(store, object_store, bucket):
    put_manifests(store, many_manifests(3))
    first = survey_manifests(store)
    admin = object_store.client("admin")
    gone, damaged, kept = (ArchiveId("public", "t000", f"2018-0{month}", 1) for month in (1, 2, 3))
    admin.delete_object(Bucket=bucket, Key=gone.manifest_key)
    admin.put_object(Bucket=bucket, Key=damaged.manifest_key, Body=b"{}")
    put_manifests(store, iter([a_manifest("t000", "2026-05")]))

    second = survey_manifests(store, earlier=first)

    assert [one.archive_id for one in second.manifests] == [str(kept), "public.t000.2026-05.0001"]
    assert [one.archive_id for one in second.damaged] == [str(gone), str(damaged)]
    assert second.read == 1


@pytest.mark.parametrize("body", [b"", b"not zstd", b"\x28\xb5\x2f\xfd\x00\x00\x00\x00"])
def test_an_index_that_cannot_be_read_is_as_good_as_none(store, body):
    put_manifests(store, many_manifests(100))
    store.swap(MANIFEST_INDEX, body, etag=None)

    assert survey_manifests(store).read == 100


def test_statistics_of_ten_times_as_many_archives_are_ten_times_the_work_at_most():
    settings = Settings(tables={"t000": some_settings("unused", "/tmp", table="t000")})

    def count(archives: int) -> int:
        manifests = list(many_manifests(archives))
        return count_calls(lambda: make_page(make_statistics(settings, manifests, now=NOW)))

    count(120)  # what is worked out once

    assert count(1200) < 11 * count(120)


def test_a_second_report_of_a_day_replaces_the_first(store):
    put_manifests(store, many_manifests(10))
    settings = Settings(tables={"t000": some_settings("unused", "/tmp", table="t000")})
    statistics = make_statistics(settings, survey_manifests(store).manifests, now=NOW)

    keys = keep_statistics(store, statistics, make_page(statistics))

    assert keys == ("reports/statistics/2026-11-23.json", "reports/statistics/2026-11-23.html")
    assert keep_statistics(store, statistics, "another page") == keys
    assert store.read(keys[1])[0] == b"another page"


def test_each_reading_leaves_a_record_and_each_unsound_archive_is_named(source, object_store, bucket, tmp_path):
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute(
            "INSERT INTO audit SELECT n, '2026-01-15'::timestamptz + n * interval '1 month' FROM generate_series(0, 4) n"
        )
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path))
    archives = []
    for key in ("2026-01", "2026-02", "2026-03", "2026-04"):
        chain.key = key
        archives.append(ArchiveId.parse(chain.run().archive_id))
    _, corrupted, missing, unverifiable = archives
    admin = object_store.client("admin")
    admin.put_object(Bucket=bucket, Key=corrupted.sums_key, Body=b"slip")
    admin.delete_object(Bucket=bucket, Key=missing.sums_key)
    admin.put_object(Bucket=bucket, Key=unverifiable.manifest_key, Body=b"{}")

    verdicts = list(verify_archives(chain.store, archives, who="ada", now=lambda: NOW))

    assert [verdict.result for verdict in verdicts] == ["sound", "corrupted", "missing", "unverifiable"]
    assert verdicts[3].problem is not None
    assert dict(read_proofs(chain.store).verified) == {str(archives[0]): NOW}
    verify_and_record(chain.store, archives[0], who="ada", now=NOW + timedelta(days=1))
    assert dict(read_proofs(chain.store).verified) == {str(archives[0]): NOW + timedelta(days=1)}
    records = [key for key in chain.store.keys("reports/verifications/") if "unverifiable" in key]
    assert records == [f"reports/verifications/public.audit/2026-04/{unverifiable}/20261123T120000Z-unverifiable.json"]


def _month(number: int) -> str:
    return f"{2018 + number // 12}-{number % 12 + 1:02d}"
