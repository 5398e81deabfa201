"""Whatever a configuration holds, it is read as a whole or refused with a named error.

A few hundred examples each; ``make fuzz`` takes twenty thousand.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.settings import Settings, load_settings
from strongroom.settings.strict_yaml import YamlError, parse_yaml
from tests.support.fuzzing import (
    damaged,
    fuzzed,
    require_named,
    values,
)


@given(text=st.text() | st.text("[]{}:,-&*!|>'\"%@`#\n \t<=~?0123456789.eExX_").map(str))
@example("a: &x [*x]")
@example("- " * 1000)
@example("? " * 1000)
@example("{" * 10_000)
@example("0x" + "f" * 10_000)
@example("a: 9999-99-99")
@example("a: !!python/object/apply:os.system ['true']")
@example("\ud800")
@fuzzed
def test_yaml_is_read_or_refused_with_a_line(text):
    with suppress(YamlError):
        parse_yaml(text)


WORDS = st.sampled_from(
    [
        "tables",
        "store",
        "purge",
        "bucket",
        "prefix",
        "hot_retention",
        "cold_retention",
        "date_column",
        "legal_basis",
        "compression",
        "type",
        "level",
        "P90D",
        "P7Y",
        "-1",
        "true",
        "null",
        "part_rows",
        "[]",
        "{}",
        "endpoint_url",
        "http://example.com",
        "1e999",
        ".nan",
        "&",
        "*",
        "!",
        "|",
        ">",
        "2026-05-01",
        "'x'",
        '"y',
    ]
)


@given(
    body=st.binary(max_size=300)
    | st.lists(st.tuples(st.integers(0, 3), WORDS, WORDS), max_size=12).map(
        lambda lines: "\n".join(f"{'  ' * depth}{key}: {value}" for depth, key, value in lines).encode()
    )
    | damaged(json.dumps({"legal_basis": "a", "tables": {"t": {"date_column": "at", "part_rows": 5}}}).encode())
)
@fuzzed
def test_a_configuration_is_read_or_refused_as_a_whole(body, tmp_path_factory):
    path: Path = tmp_path_factory.getbasetemp() / "archive.yaml"
    path.write_bytes(body)

    found = require_named(lambda: load_settings(path, {}))

    assert found is None or isinstance(found, Settings)


@given(
    environ=st.dictionaries(
        st.sampled_from(
            ["STRONGROOM__HOT_RETENTION", "STRONGROOM__STORE__BUCKET", "STRONGROOM__TABLES__T__PART_ROWS", "STRONGROOM__",
             "STRONGROOM__STORE", "STRONGROOM____", "STRONGROOM__TABLES__T__STORE__PREFIX", "STRONGROOM__COMPRESSION__LEVEL"]
        ),
        st.text(max_size=20) | st.sampled_from(["\udcff", "a\udc80b"]) | values.map(json.dumps),
    )
)  # fmt: skip
@fuzzed
def test_settings_of_the_environment_are_read_or_refused(environ, tmp_path_factory):
    path: Path = tmp_path_factory.getbasetemp() / "sound.yaml"
    path.write_text(json.dumps({"legal_basis": "a", "tables": {"t": {"date_column": "at"}}}))

    require_named(lambda: load_settings(path, environ))
