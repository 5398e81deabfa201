"""The texts of an archived part, as those read them who compare an archive with something else."""

from __future__ import annotations

import pytest
import zstandard

from strongroom.errors import IntegrityError
from strongroom.tables.archived_rows import archived_texts


def test_texts_of_another_object_than_the_part_are_refused_when_all_are_read(chain, part, tmp_path):
    """Each of its rows can be read, and one of them is missing: whoever took it for the part would believe that row gone."""
    [body] = chain.store.chunks(part.object_key, part.version_id)
    lines = zstandard.ZstdDecompressor().stream_reader(body).read().splitlines(keepends=True)
    other = zstandard.compress(b"".join(lines[1:]))
    shape = chain.plan().shape

    whole = list(archived_texts(chain.store, tmp_path, shape, part, hint=""))
    texts = archived_texts(chain.store, tmp_path, shape, part, hint="", chunks=iter([other]))

    assert b"".join(whole).count(b"\n") == part.rows
    with pytest.raises(IntegrityError):
        list(texts)
