"""The format document describes every field, and its example in another language reads an archive."""

from __future__ import annotations

import re

import psycopg
import pytest

from strongroom.database.session import PINNED
from strongroom.erasure.successions import PartSuccession
from strongroom.ledger.manifest_record import Manifest, ManifestPart, Succession
from strongroom.ledger.manifests import require_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.records import Column, SourceIdentity, TableShape
from tests.support.chain import Chain, some_settings
from tests.support.database import execute
from tests.support.lossless import download, odd_rows
from tests.support.repository import REPOSITORY

# The format document.

DOCUMENT = (REPOSITORY / "docs" / "reference" / "archive-format.md").read_text()


def example(language: str, containing: str) -> str:
    """The one fenced example of the document that contains some words."""
    [found] = [block for block in re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL) if containing in block]
    return found


@pytest.mark.parametrize(
    "record", [Manifest, ManifestPart, Succession, PartSuccession, TableShape, Column, SourceIdentity]
)
def test_the_format_document_tells_of_every_field(record):
    assert [name for name in record.model_fields if f"`{name}`" not in DOCUMENT] == []


def test_the_format_document_names_the_settings_that_values_depend_on():
    """All that are pinned, but for those that decide what is seen and in which order."""
    about_reading = {"row_security", "synchronize_seqscans"}

    told = dict(re.findall(r"\| `(\w+)` \| `([^`]+)`", DOCUMENT))

    assert {name: told.get(name) for name in PINNED.keys() - about_reading} == {
        name: value for name, value in PINNED.items() if name not in about_reading
    }


def test_the_example_of_the_format_document_is_true(source, object_store, bucket, tmp_path):
    """The table gives those lines, and the SQL brings its rows back."""
    execute(source, example("sql", "CREATE TYPE direction"))
    execute(
        source,
        """INSERT INTO calls (started_at, way, cost, hops, detail, signal) VALUES
        ('2026-05-17 12:34:56.789+00', 'out', 66.40, '{10.0.0.1,NULL}', '{"cell": 1.10}', '{"a":1,  "a":2}'),
        ('2026-05-31 23:59:59.999999+00', NULL, 'NaN', '[0:0]={::1}', 'null', NULL)""",
    )
    table = some_settings(bucket, tmp_path, "calls", date_column="started_at")
    chain = Chain(source, object_store.client("archiver"), table)
    before = odd_rows(chain, "calls", "id")

    report = chain.run()

    lines = list(download(chain, require_manifest(chain.store, ArchiveId.parse(report.archive_id))))
    assert b"".join(line + b"\n" for line in lines).decode() == example("json", "10.0.0.1")
    assert odd_rows(chain, "calls", "id")[0] == []
    copy = re.compile(r"\\copy lines FROM PROGRAM '.*' (.*)\n")
    first, options, last = copy.split(example("sql", "json_to_record"))
    with psycopg.connect(source) as connection:
        connection.execute(first)
        with connection.cursor() as cursor, cursor.copy(f"COPY lines FROM STDIN {options}") as stream:
            stream.write(b"".join(line + b"\n" for line in lines))
        connection.execute(last)
    assert odd_rows(chain, "calls", "id") == before
