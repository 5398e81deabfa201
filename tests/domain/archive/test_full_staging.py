"""A staging that is full or unusable ends a step in one clear error, and the step succeeds once it is fixed."""

from __future__ import annotations

import pytest

from tests.support.chain import Chain
from tests.support.full_disk import largest_file
from tests.support.hourly import (
    DUE,
    ROWS,
    archived_ids,
    hourly_chain,
    left_ids,
    require_nothing_lost,
    require_success,
    told,
)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    return hourly_chain(source, object_store.client("archiver"), bucket, tmp_path)


FULL_AT = {
    "part-00000.lines.zst.partial": "extract_to_staging",
    "part-00000.blocks.partial": "extract_to_staging",
    "part-00000.extracted.json.partial": "extract_to_staging",
    "part-00000.jsonl.zst.partial": "compress",
    "part-00000.compressed.json.partial": "compress",
    "part-00000.checksummed.json.partial": "checksum",
    "part-00000.uploaded.json.partial": "upload",
    "part-00000.deleteprogress.json.partial": "delete",
}
"""Where the disk may be full, and in which step."""


@pytest.mark.parametrize("file", FULL_AT)
def test_a_full_disk(chain, file):
    """The kernel's own ENOSPC on the file that a step writes; room comes back, and the step is tried again."""
    plan = chain.plan()
    folder = chain.staging(plan.archive_id).folder
    folder.mkdir(parents=True)
    (folder / file).symlink_to("/dev/full")

    text = told(lambda: delete_all(chain, plan))

    assert text.startswith(f"StagingError: staging has no room left to write {folder}/part-00000")
    assert "bytes free on its disk" in text
    assert "HINT: Nothing is lost" in text
    assert "Free space, or point `staging` at a larger disk" in text
    assert list(folder.glob("*.partial")) == []
    require_nothing_lost(chain)
    delete_all(chain, plan)
    assert left_ids(chain) == ROWS - DUE
    assert sorted(archived_ids(chain)) == sorted(DUE)


def test_a_file_that_may_not_grow_further(chain):
    """The limit of a user's file size or quota says the same."""
    plan = chain.plan()

    with largest_file(size_bytes=2000):
        text = told(lambda: delete_all(chain, plan))

    assert text.startswith("StagingError: staging has no room left to write ")
    assert left_ids(chain) == ROWS
    delete_all(chain, plan)
    assert left_ids(chain) == ROWS - DUE


def test_a_staging_that_is_no_folder(chain, tmp_path):
    (tmp_path / "staging").write_text("a file")

    text = told(chain.run)

    assert text.startswith(f"StagingError: staging could not look at {tmp_path / 'staging'}")
    assert "See that `staging` names a folder that the Airflow worker may write" in text
    (tmp_path / "staging").unlink()
    require_success(chain)


def delete_all(chain: Chain, plan) -> None:
    """All steps of a run after its plan."""
    for part in chain.seal(plan).parts:
        chain.delete(part)
