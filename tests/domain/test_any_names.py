"""No name leads out of its prefix, whatever it holds.

A few hundred examples each; ``make fuzz`` takes twenty thousand.
"""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.calendar import Partition, Term
from strongroom.ledger.holds import parse_coverage
from strongroom.object_keys.archives import (
    ArchiveId,
    manifest_archive_id,
    sealed_and_kept,
    stored_archive_id,
    unfinished_purges,
)
from strongroom.object_keys.layout import encode_name
from strongroom.object_keys.reports import is_restore_report, parse_verification_key
from strongroom.statistics.proofs import parse_sample
from tests.support.fuzzing import (
    KEYS,
    NAMES,
    fuzzed,
    require_named,
)


@given(text=KEYS | st.integers(0, 10**30).map(lambda number: f"public.audit.2026-05.{number:04d}"))
@example("public.audit.2026-05.0001\n")
@example("public.a%2Fb.2026-05.0001")
@example("public.a%2fb.2026-05.0001")
@example("public.%ff.2026-05.0001")
@example("public.audit.2026-05." + "1" * 5000)
@fuzzed
def test_an_archive_id_is_written_in_one_way_and_stays_below_its_prefixes(text):
    archive = require_named(lambda: ArchiveId.parse(text))

    if isinstance(archive, ArchiveId):
        assert str(archive) == text
        for key in (archive.manifest_key, archive.sums_key, archive.part_key(0, "zstd"), archive.destruction_key):
            assert re.fullmatch(
                r"(metadata|archives|evidence)/[A-Za-z0-9_%-]+\.[A-Za-z0-9_%-]+/[A-Za-z0-9_%.=/-]+", key
            )
            assert ".." not in key.split("/")


@given(schema=st.text(min_size=1), table=NAMES.filter(bool), number=st.integers(1, 99_999))
@fuzzed
def test_any_name_makes_an_archive_id_that_reads_back(schema, table, number):
    archive = ArchiveId(schema, table, "2026-05", number)

    assert ArchiveId.parse(str(archive)) == archive
    assert manifest_archive_id(archive.manifest_key) == archive
    assert stored_archive_id(archive.part_key(0, "none")) == archive
    assert not {"/", ".", "%2F"} & set(encode_name(schema.replace("/", "")))


@given(
    key=st.lists(KEYS | st.sampled_from(["metadata", "archives", "evidence", "reports", "verifications"])).map("/".join)
)
@example("metadata/public.audit/2026-05/public.audit.2026-05.0001.json")
@example("metadata/public.other/2026-05/public.audit.2026-05.0001.json")
@example("evidence/x/public.audit.2026-05.0001/purge-intent.json")
@example("reports/verifications/a/b/public.audit.2026-05.0001/20260231T000000Z-sound.json")
@example("reports/verifications/a/b/public.audit.2026-05.0001/٢٠٢٦٠٢٠١T000000Z-sound.json")
@fuzzed
def test_a_key_that_somebody_else_wrote_is_passed_over(key):
    for read in (manifest_archive_id, stored_archive_id, parse_verification_key, is_restore_report):
        read(key)
    for archive in (*unfinished_purges([key]), *sealed_and_kept([key])):
        assert key.startswith(archive.evidence_prefix)
    archive = manifest_archive_id(key)
    assert archive is None or archive.manifest_key == key


@given(text=KEYS)
@fuzzed
def test_what_is_to_be_held_partitions_terms_and_samples_are_read_or_named(text):
    require_named(lambda: parse_coverage(text))
    require_named(lambda: Partition.named(text))
    require_named(lambda: Term.parse(text))
    require_named(lambda: parse_sample(text))
