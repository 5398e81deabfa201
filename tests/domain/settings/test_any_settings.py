"""Whatever anybody writes into the file or the environment is loaded, or refused with one error."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError
from strongroom.settings import Compression, StoreSettings, TableSettings, load_settings

KEYS = [*TableSettings.model_fields, *Compression.model_fields, *StoreSettings.model_fields, "tables", "x", "a.b"]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(
        ["P90D", "zstd", "gzip", "none", "aws:kms", "0 2 1 * *", "* * 30 2 *", "http://x", "~nobody/x", "all"]
    ),
)


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=4),
    max_leaves=12,
)


DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8)


NAMES = st.lists(st.sampled_from([*(key.upper() for key in KEYS), "", "EVENTS", "é"]), max_size=4).map("__".join)


ENVIRONMENTS = st.dictionaries(
    NAMES.map("STRONGROOM__".__add__),
    st.text() | st.sampled_from(["null", "[", "[" * 5000, "{}", '{"level": 5}', "P1D", "9" * 5000, "\udcff"]),
    max_size=4,
)


def load_or_refuse(path: Path, environ: dict[str, str]) -> None:
    try:
        loaded = load_settings(path, environ)
    except ConfigurationError:
        return
    assert loaded.tables


@settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # the first text of a process takes seconds to draw
@given(document=DOCUMENTS, environ=ENVIRONMENTS)
@example(document={}, environ={"STRONGROOM__TABLES__EVENTS__STORE": '{"bucket": {}}'})
def test_settings_of_any_shape_load_or_are_refused(tmp_path_factory, document, environ):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    tables = document.get("tables")
    events = {"date_column": "at", "legal_basis": "a law"}
    document["tables"] = {**tables, "events": events} if isinstance(tables, dict) else {"events": events}
    path.write_bytes(yaml.safe_dump(document, allow_unicode=False, encoding="utf-8"))

    load_or_refuse(path, environ)


PIECES = st.sampled_from(
    ["tables:", " ", "\n", "\n  ", "a", ": ", "- ", "[", "]", "{", "}", ",", "&a ", "*a", "<<", "!!int ", "!", "'", '"',
     "|", ">", "%", "@", "#", "---", "...", "? ", "0x1", "1:30", "2026-99-99", "null", "\t", "é", "\u2028", "\x85"]
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text() | st.lists(PIECES, max_size=30).map("".join) | st.binary())
@example(text="? ")
@example(text="!!int ")
@example(text="tables: {a: &a {store: *a}}")
def test_text_of_any_kind_loads_or_is_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))

    load_or_refuse(path, {})
