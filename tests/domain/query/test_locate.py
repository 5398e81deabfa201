"""Which archives a query searches, and that none in its range is left out without a word."""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.query.locate import locate_archives
from strongroom.query.records import QueryRequest
from tests.support.vault import Vault, an_archive, fill_vault


@pytest.fixture
def vault(object_store, bucket, tmp_path) -> Vault:
    """April, May and June 2026, sealed."""
    return fill_vault(object_store, bucket, tmp_path)


def located(vault: Vault, **asked: Any) -> tuple[list[str], list[tuple[str, str]]]:
    """The months that are to be searched, and those that are not, with the reason."""
    request = QueryRequest.model_validate({"table": "public.audit", "who": "ada", "why": "a test", **asked})
    found = locate_archives(vault.store, request)
    return (
        [manifest.partition_key for manifest in found.manifests],
        [(one.archive_id[-12:-5], one.reason) for one in found.not_searched],
    )


def test_archives_whose_window_touches_the_range_are_found_oldest_first(vault):
    assert located(vault) == (["2026-04", "2026-05", "2026-06"], [])
    assert located(vault, since="2026-05-31T23:59:59Z", before="2026-06-01") == (["2026-05"], [])
    assert located(vault, since="2026-05-01", before="2026-06-01T00:00:01Z") == (["2026-05", "2026-06"], [])


def test_a_purged_archive_in_the_range_is_named(vault):
    vault.purge("2026-04")

    assert located(vault) == (["2026-05", "2026-06"], [("2026-04", "purged")])
    assert located(vault, since="2026-05-01") == (["2026-05", "2026-06"], [])
    assert located(vault, archives=[str(an_archive("2026-04"))]) == ([], [("2026-04", "purged")])


def test_a_manifest_that_is_gone_or_hidden_or_overwritten_is_named(vault):
    vault.vandal.hide(an_archive("2026-04").manifest_key)
    vault.vandal.write(an_archive("2026-05").manifest_key, b"{}")

    assert located(vault) == (["2026-06"], [("2026-04", "unverifiable"), ("2026-05", "unverifiable")])
