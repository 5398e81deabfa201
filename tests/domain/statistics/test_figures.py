"""Statistics over manifests and counts, the page that shows them, the metrics made of them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from strongroom.ledger.holds import Hold
from strongroom.object_keys.archives import ArchiveId
from strongroom.object_keys.reports import VerificationKey, parse_verification_key, verification_key
from strongroom.settings import Settings, TableSettings
from strongroom.statistics.figures import GIBIBYTE, make_statistics, next_run
from strongroom.statistics.keep import log_lines
from strongroom.statistics.metrics import StepFigures, make_metrics
from strongroom.statistics.page import make_page
from strongroom.statistics.proofs import Proofs, SampleError, choose_sample, make_proofs, parse_sample
from strongroom.statistics.records import Statistics, Uncounted
from strongroom.statistics.waiting import TableCounts, WaitingPartition
from tests.support.synthetic import a_manifest, many_manifests

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def a_table(name: str = "audit", **changes) -> TableSettings:
    return TableSettings.model_validate({"table": name, "date_column": "at", "legal_basis": "a test"} | changes)


def some_settings(*names: str) -> Settings:
    return Settings(tables={name: a_table(name) for name in names or ("audit",)})


def some_counts(**changes) -> TableCounts:
    waiting = tuple(WaitingPartition(partition_key=key, rows=rows) for key, rows in (("2026-04", 7), ("2026-05", 3)))
    given = {
        "hot_rows": 1000,
        "hot_bytes": GIBIBYTE,
        "warm_bytes": None,
        "waiting": waiting,
        "undated_rows": 2,
        "counted_at": NOW,
    }
    return TableCounts.model_validate(given | changes)


def test_sizes_windows_and_growth_are_summed_for_each_table_and_in_all():
    manifests = [a_manifest(key="2026-05"), a_manifest(key="2026-03"), a_manifest("gone", "2026-03")]

    statistics = make_statistics(some_settings(), manifests, now=NOW)

    audit, gone = statistics.tables
    assert (audit.archives, audit.rows, audit.ratio, audit.configured) == (2, 4000, 10.0, True)
    assert (audit.oldest_at, audit.newest_at) == (manifests[1].window_start, manifests[0].window_end)
    assert (gone.table, gone.configured, gone.next_run) == ("public.gone", False, None)
    assert (statistics.total.archives, statistics.total.compressed_size_bytes) == (3, 300_000)
    assert [(one.month, one.archives) for one in statistics.total.growth] == [("2026-07", 2), ("2026-09", 1)]


def test_rows_of_an_archived_partition_are_late_and_the_others_overdue():
    statistics = make_statistics(
        some_settings(), [a_manifest(key="2026-05")], counts={"public.audit": some_counts()}, now=NOW
    )

    [audit] = statistics.tables
    assert (audit.overdue_rows, audit.late_rows, audit.undated_rows) == (7, 3, 2)


def test_a_table_that_could_not_be_counted_says_so_instead_of_zero():
    counts = {"public.audit": Uncounted(reason="no such table"), "public.calls": some_counts()}

    statistics = make_statistics(some_settings("audit", "calls"), [], counts=counts, now=NOW)

    audit = statistics.tables[0]
    assert (audit.overdue_rows, audit.hot_bytes, audit.uncounted) == (None, None, "no such table")
    assert statistics.total.overdue_rows == 10


def test_a_table_that_is_left_out_stands_there_with_its_archives():
    """Its settings are wrong, so nothing is known of its rows and its next run; it is none of those nobody knows."""
    settings = Settings(tables={"calls": a_table("calls")}, left_out={"audit": "1 fault"})

    made = make_statistics(settings, [a_manifest()], counts={"public.audit": Uncounted(reason="left out")}, now=NOW)

    assert [(one.table, one.archives, one.configured, one.uncounted) for one in made.tables] == [
        ("public.calls", 0, True, None),
        ("public.audit", 1, False, "left out"),
    ]


def test_cost_follows_the_prices_and_saving_is_what_the_rows_would_cost_in_the_table():
    """A thousand rows take one gibibyte in the table, so the 4,000 archived ones would take four."""
    manifests = [a_manifest(key="2026-03", compressed_size=GIBIBYTE), a_manifest(key="2026-04", compressed_size=0)]
    cold = a_manifest("audit", "2026-05", compressed_size=GIBIBYTE, storage_class="DEEP_ARCHIVE", record_count=0)

    statistics = make_statistics(some_settings(), [*manifests, cold], counts={"public.audit": some_counts()}, now=NOW)

    costs = {cost.tier: cost.usd_per_month for cost in statistics.total.costs}
    assert costs == pytest.approx({"hot": 0.23, "STANDARD": 0.023, "DEEP_ARCHIVE": 0.00099})
    assert statistics.total.saved_usd_per_month == pytest.approx(4 * 0.23 - 0.023 - 0.00099)


@pytest.mark.parametrize("storage_class", ["nonsense", "OF", "model_dump", "__class__"])
def test_a_storage_class_that_nobody_knows_costs_as_much_as_standard(storage_class):
    made = make_statistics(
        some_settings(), [a_manifest(compressed_size=GIBIBYTE, storage_class=storage_class)], now=NOW
    )

    assert [(one.tier, one.usd_per_month) for one in made.total.costs] == [(storage_class, 0.023)]


def test_warm_tables_cost_too_and_transitions_move_archives_into_cheaper_classes():
    """Sealed on 3 July and 3 September 2026; a hundred days later, on 23 November, only the first has moved on."""
    table = a_table(transitions={"glacier": "P100D", "deep_archive": "P200D"})
    manifests = [a_manifest(key=key, compressed_size=GIBIBYTE) for key in ("2026-03", "2026-05")]
    counts = {"public.audit": some_counts(warm_bytes=GIBIBYTE)}

    total = make_statistics(Settings(tables={"audit": table}), manifests, counts=counts, now=NOW).total

    assert [(cost.tier, cost.usd_per_month) for cost in total.costs] == [
        ("hot", 0.23),
        ("warm", 0.23),
        ("GLACIER", 0.0036),
        ("STANDARD", 0.023),
    ]


def test_a_held_archive_is_counted_and_never_the_next_to_expire():
    first, second = a_manifest(key="2018-01"), a_manifest(key="2018-02")
    hold = Hold(hold_id="h", what=first.archive_id, why="w", who="me", reference="r", placed_at=NOW)

    total = make_statistics(some_settings(), [first, second], holds=[hold], now=NOW).total

    assert (total.held_archives, total.next_expiry_at) == (1, second.retention_until)


def test_the_page_calls_a_table_held_whose_archives_are_all_held_and_dates_no_expiry_where_there_is_none():
    archive = a_manifest(key="2018-01")
    hold = Hold(hold_id="h", what="public.audit", why="w", who="me", reference="r", placed_at=NOW)

    held, free, none = (
        make_page(make_statistics(some_settings(), manifests, holds=holds, now=NOW))
        for manifests, holds in (([archive], [hold]), ([archive], []), ([], [hold]))
    )

    assert "<b>held</b><span>next archive expires" in held
    assert f"<b>{archive.retention_until:%Y-%m-%d}</b><span>next archive expires" in free
    assert "<b>–</b><span>next archive expires" in none


def test_freshness_tells_the_newest_reading_and_the_longest_unread_archive():
    manifests = [a_manifest(key="2026-03"), a_manifest(key="2026-05")]
    verified = {manifests[0].archive_id: NOW - timedelta(days=2)}

    total = make_statistics(some_settings(), manifests, proofs=Proofs(verified), now=NOW).total

    assert (total.last_verified_at, total.longest_unverified_at) == (NOW - timedelta(days=2), manifests[1].created_at)


@pytest.mark.parametrize(
    ("now", "key", "at"),
    [
        ("2026-05-15", "2026-01", "2026-06-01T02:00"),  # January and February share the tick of 1 June
        ("2026-06-01", "2026-01", "2026-06-01T02:00"),
        ("2026-06-02", "2026-03", "2026-07-01T02:00"),
        ("2026-11-23", "2026-08", "2026-12-01T02:00"),
    ],
)
def test_the_next_run_is_the_oldest_partition_of_the_next_tick(now, key, at):
    found = next_run(a_table(), datetime.fromisoformat(now).replace(tzinfo=timezone.utc))

    assert (found.partition_key, f"{found.at:%Y-%m-%dT%H:%M}") == (key, at)


def some_statistics() -> Statistics:
    counts = {"public.audit": some_counts(), "public.<b>": Uncounted(reason="<script>")}
    return make_statistics(some_settings("audit"), [*many_manifests(150), a_manifest("<b>")], counts=counts, now=NOW)


def test_the_page_is_one_file_that_fetches_nothing_and_escapes_names():
    page = make_page(some_statistics())

    assert re.findall(r"(?i)<script|<link|<img|<iframe|url\(|@import|https?:|\bsrc=|\bhref=", page) == []
    assert "public.&lt;b&gt;" in page
    assert "<b>&" not in page
    assert page.count("<svg") == 5
    assert not re.search(r"<[^>]*\sstyle=", page)
    assert "light-dark(" in page


def test_the_page_of_a_store_without_archives_says_so():
    assert "There is no archive yet." in make_page(make_statistics(some_settings(), [], now=NOW))


def test_the_log_has_a_line_for_each_table_and_the_sum():
    lines = list(log_lines(some_statistics()))

    assert len(lines) == 1 + 4 + 1
    assert lines[1].split()[:3] == ["public.audit", "0", "0"]
    assert lines[-1].split()[:3] == ["all", "151", "302,000"]


def test_metrics_have_a_sample_for_what_is_known_and_none_for_what_is_not():
    class Once:
        def collect(self):
            return make_metrics(
                some_statistics(), [StepFigures("archive__audit", "upload", 4, 2.5, 1)], {"retention_purge": 1}, []
            )

    registry = CollectorRegistry()
    registry.register(Once())
    lines = generate_latest(registry).decode().splitlines()

    assert 'strongroom_overdue_rows{table="public.audit"} 10.0' in lines
    assert not [line for line in lines if line.startswith("strongroom_overdue_rows") and "t000" in line]
    assert 'strongroom_step_seconds_sum{dag_id="archive__audit",step="upload"} 2.5' in lines
    assert 'strongroom_step_failures_total{dag_id="archive__audit",step="upload"} 1.0' in lines
    assert not [line for line in lines if line.startswith("strongroom_days_since_verified ")]


def test_samples_of_any_size_come_to_every_archive_in_turn():
    """Three of every ten, each time those whose proof is oldest: four samples read all of 20 archives."""
    sealed = {ArchiveId("public", "audit", f"20{n:02d}-01", 1): NOW for n in range(20)}
    verified: dict[str, datetime] = {}

    for day in range(1, 5):
        sample = choose_sample(sealed, verified, Fraction(3, 10))
        assert len(sample) == 6
        verified |= dict.fromkeys(map(str, sample), NOW + timedelta(days=day))

    assert set(verified) == set(map(str, sealed))


@pytest.mark.parametrize("text", ["", "1", "0/5", "6/5", "1/", "-1/5", "a/b", "1/2/3"])
def test_what_is_no_sample_is_refused(text):
    with pytest.raises(SampleError, match="is not a sample"):
        parse_sample(text)


def test_the_key_of_a_verification_tells_archive_time_and_result():
    archive = ArchiveId("public", "my table", "2026-05", 1)

    found = parse_verification_key(verification_key(archive, NOW, "sound"))

    assert found is not None
    assert (found.archive, found.at, found.result) == (archive, NOW, "sound")
    assert parse_verification_key("reports/verifications/x.json") is None


def sample_of(statistics: Statistics, name: str) -> dict[str, float]:
    """The samples of one metric by table; of one without a table under no name."""
    samples = (sample for family in make_metrics(statistics, [], {}, []) for sample in family.samples)
    return {sample.labels.get("table", ""): sample.value for sample in samples if sample.name == f"strongroom_{name}"}


def test_the_days_since_a_drill_age_from_the_last_sound_one_and_if_there_was_none_from_the_first_archive():
    """A dead man's switch: a drill that never ran ages as one that fails."""
    drilled, never = a_manifest(key="2026-05"), [a_manifest("calls", "2026-03"), a_manifest("calls", "2026-05")]
    archive = ArchiveId.parse(drilled.archive_id)
    keys = [
        VerificationKey(archive, NOW - timedelta(days=days), result)
        for days, result in ((40, "sound"), (10, "sound"), (1, "failed"), (0, "skipped"))
    ]

    proofs = make_proofs({}, [], {drilled.archive_id: keys})
    statistics = make_statistics(some_settings("audit", "calls", "empty"), [drilled, *never], proofs=proofs, now=NOW)

    days = sample_of(statistics, "days_since_drill")
    sealed_for = (NOW - min(one.created_at for one in never)) / timedelta(days=1)
    assert days == {"public.audit": 10, "public.calls": sealed_for}
    assert sample_of(statistics, "failed_drills") == {"public.audit": 1, "public.calls": 0, "public.empty": 0}
    assert sample_of(statistics, "days_since_restored") == {"": 10}
    assert sample_of(statistics, "days_since_oldest_proof")[""] == sealed_for
    assert proofs.verified == {drilled.archive_id: NOW - timedelta(days=10)}


def test_a_drill_that_succeeds_after_one_that_failed_ends_the_alarm():
    archive = ArchiveId("public", "audit", "2026-05", 1)
    keys = [
        VerificationKey(archive, NOW - timedelta(days=days), result) for days, result in ((1, "sound"), (2, "failed"))
    ]

    assert make_proofs({}, [], {str(archive): keys}).failed_drills == frozenset()
