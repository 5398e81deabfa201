"""A plan in a file: carried out only as it was saved, and while nothing that it stands on has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.errors import IntegrityError
from strongroom.ledger.holds import place_hold
from strongroom.preview.saved import LONGEST_AGE, PlanError, changes, load_preview, require_young, save_preview
from tests.support.chain import NOW, Chain, some_settings
from tests.support.database import execute
from tests.support.previewing import look, preview_of

TABLE = """
CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL, who text);
INSERT INTO audit SELECT n, '2026-05-01Z'::timestamptz + n * interval '1 minute', 'agent ' || n FROM generate_series(1, 50) AS n;
"""


@pytest.fixture
def chain(source, object_store, bucket, tmp_path) -> Chain:
    execute(source, TABLE)
    chain = Chain(source, object_store.client("archiver"), some_settings(bucket, tmp_path / "staging"))
    chain.plan()
    return chain


@pytest.fixture
def file(chain, tmp_path) -> Path:
    path = tmp_path / "plan.json"
    save_preview(preview_of(chain), path)
    return path


def test_a_plan_that_was_saved_is_read_as_it_was(chain, file):
    assert load_preview(file) == preview_of(chain)
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in file.parent.iterdir() if path.name != "staging"] == ["plan.json"]


def test_a_file_that_was_damaged_or_edited_is_refused(file):
    text = file.read_text()
    edits = [
        text.replace('"due_rows": 50', '"due_rows": 49'),
        text.replace("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z", 1),
        text.replace('"made_by": "ada"', '"made_by": "bob"'),
        text.replace('"version": 1', '"version": 2'),
        text[: len(text) // 2],
        "",
        "[]",
    ]
    for edited in edits:
        assert edited != text
        file.write_text(edited)
        with pytest.raises(IntegrityError, match=r"plan\.json"):
            load_preview(file)


def test_an_edit_with_another_digest_of_the_right_form_is_refused(file):
    document = json.loads(file.read_text())
    document["digest"] = "0" * 64
    file.write_text(json.dumps(document))

    with pytest.raises(IntegrityError, match="was damaged or edited"):
        load_preview(file)


def test_a_file_that_is_not_there_or_cannot_be_written_is_an_error_of_ours(chain, tmp_path):
    with pytest.raises(PlanError, match="there is no plan in"):
        load_preview(tmp_path / "nothing.json")
    with pytest.raises(PlanError, match="was not saved"):
        save_preview(preview_of(chain), tmp_path / "no folder" / "plan.json")


def test_an_old_plan_is_refused(chain):
    preview = preview_of(chain)

    require_young(preview, NOW + LONGEST_AGE)
    with pytest.raises(PlanError, match="too old"):
        require_young(preview, NOW + LONGEST_AGE + timedelta(seconds=1))


def test_nothing_has_changed_where_nothing_has(chain):
    assert changes([look(chain, explain=True)], [look(chain)]) == []


BY_KEY, BY_RANGE = (
    f"by {way}, in batches of at most 20,000 rows"
    for way in ("key, since no index begins with at", "range, since an index begins with at")
)
CHANGES = {
    "INSERT INTO audit VALUES (51, '2026-05-02Z', 'new')": "2026-05 rows to archive: then 50, now 51",
    "DELETE FROM audit WHERE id = 7": "2026-05 rows in the table: then 51, now 50",
    "INSERT INTO audit VALUES (52, '2026-04-02Z', 'new')": "2026-04 outcome: then none, now planned",
    "DELETE FROM audit WHERE id = 52": "2026-04 outcome: then planned, now none",
    "ALTER TABLE audit ADD note text": "column note: then none, now text",
    "ALTER TABLE audit ALTER who SET NOT NULL": "column who: then text, now text NOT NULL",
    "CREATE INDEX ON audit (at)": f"2026-05 delete: then {BY_KEY}, now {BY_RANGE}",
    "CREATE TABLE note (audit_id bigint REFERENCES audit)": (
        "references: then none, now public.note (note_audit_id_fkey)"
    ),
    "INSERT INTO note VALUES (3)": (
        "2026-05 rows that stay, public.note refers to them (note_audit_id_fkey): then none, now 1"
    ),
}
"""What a statement changes, in the words of who compares. They are executed one after another."""


def test_what_changed_in_the_database_is_said_line_by_line(chain):
    then = look(chain)

    for statement, expected in CHANGES.items():
        execute(chain.conninfo, statement)
        now = look(chain)
        assert f"audit, {expected}" in list(map(str, changes([then], [now])))
        then = now


def test_a_setting_a_hold_and_an_archive_are_changes_too(chain):
    then = look(chain)
    other = replace(chain, settings=chain.settings.model_copy(update={"delete_batch_rows": 10}))
    place_hold(chain.store, "public.audit", why="a doubt", who="ada", reference="17", now=NOW)
    chain.seal(chain.plan())

    found = {change.what: (change.then, change.now) for change in changes([then], [look(other)])}

    assert found["audit, setting delete_batch_rows"] == ("20000", "10")
    assert found["audit, holds"][0] == "none"
    assert found["audit, 2026-05 outcome"] == ("planned", "resumed")
