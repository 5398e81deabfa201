"""Twenty rows in blocks of four."""

from __future__ import annotations

import pytest

from strongroom.formats import blocks
from tests.support.chain import Chain
from tests.support.database import execute

TABLE = """
DROP TABLE audit;
CREATE TABLE audit (id bigint, branch text COLLATE "C", at timestamptz NOT NULL, who text, PRIMARY KEY (id, branch));
CREATE INDEX ON audit (at);
INSERT INTO audit SELECT n, 'a', '2026-05-02 00:00+00'::timestamptz + (n / 2) * interval '1.5 seconds', 'agent ' || n FROM generate_series(2, 21) AS n;
"""
"""Twenty rows, two of each instant."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch) -> None:
    """Blocks of four rows: two instants each."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)


@pytest.fixture
def chain(chain) -> Chain:
    execute(chain.conninfo, TABLE)
    chain.settings = chain.settings.model_copy(update={"delete_batch_rows": 8})
    return chain
