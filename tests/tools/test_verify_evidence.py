"""The auditor's program: the bucket itself, logs that broke off, input of every kind, its output and its exit codes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, get_args

import pytest
from botocore.exceptions import ClientError

from strongroom.ledger.entries import Act, Kind
from strongroom.ledger.journal import begin_log, change_key, enter
from strongroom.object_keys.records import hold_key
from strongroom.storage.author import Author
from strongroom.storage.store import Store
from strongroom.tlog.notes import SignerKey
from strongroom.tlog.tiles import pack_entries
from tests.support.audited import CALLS, DELETED, IN_FORCE, PURGED, RELEASED, TEXTS, Copy, copy_bucket, line_of, those
from tests.support.chain import some_settings
from tests.support.logs import KEY
from tests.support.repository import REPOSITORY
from tests.support.synthetic_log import write_log
from tests.support.tools import Verdict, verifier, verify_evidence

PROGRAM = REPOSITORY / "tools" / "verify_evidence.py"
PART = CALLS.part_key(0, "zstd")
HOLD = hold_key(IN_FORCE)


# The bucket itself


@pytest.fixture
def reader(audited, monkeypatch) -> Any:
    """Audits the bucket itself, as an identity that may read it."""

    def verify(*arguments: Any, identity: str = "auditor") -> Verdict:
        access_key, secret_key = audited.object_store.keys(identity)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        where = ("--s3", audited.bucket, "--endpoint", audited.object_store.endpoint_url)
        return verify_evidence(*where, "--key", str(KEY.verifier), *arguments)

    return verify


def test_a_bucket_is_proved_without_a_copy(audited, reader):
    """With nothing but the right to read; versions included."""
    verdict = reader("--since", audited.since)

    assert (verdict.code, verdict.false, verdict.unproved) == (0, [], [])
    assert "no delete marker lies over anything" in str(verdict.of("proved", "versions"))


@contextmanager
def added(audited: Any, key: str, body: bytes | None) -> Iterator[None]:
    """Put another version over an object, or a delete marker, and take it away again."""
    admin, where = audited.object_store.client("admin"), {"Bucket": audited.bucket, "Key": key}
    version = admin.delete_object(**where) if body is None else admin.put_object(**where, Body=body)
    try:
        yield
    finally:
        admin.delete_object(**where, VersionId=version["VersionId"])


@pytest.mark.parametrize("key", [HOLD, CALLS.manifest_key, PART, CALLS.seal_key, PURGED.destruction_key])
def test_a_delete_marker_is_found(audited, reader, key):
    """Over a hold, a manifest, a part, a copy, a certificate. What lies under it is still compared."""
    with added(audited, key, None):
        verdict = reader()

    assert verdict.code == 1
    assert verdict.false == [f"a delete marker was put over {key}"]


@pytest.mark.parametrize("key", [CALLS.manifest_key, PART, DELETED.delete_evidence_key(0)])
def test_a_second_version_is_found(audited, reader, key):
    """Restores read the right one; whoever asks for the key alone does not."""
    with added(audited, key, b"other"):
        verdict = reader()

    assert verdict.code == 1
    assert verdict.false == [f"{key} is written once, but has 2 versions"]


def test_a_second_version_of_a_hold_that_says_released_is_found(audited, reader):
    """A hold has two versions once it is released, so the log decides."""
    hold = json.loads(audited.good.read(HOLD)) | {"released_at": "2026-01-01T00:00:00Z"}
    with added(audited, HOLD, json.dumps(hold).encode()):
        verdict = reader()

    assert verdict.code == 1
    assert f"{HOLD} was changed" in str(verdict.false)


def test_a_head_that_was_put_back_is_found_by_the_versions_under_it(audited, reader):
    """Even if nothing else were left of the longer log."""
    with added(audited, "log/checkpoint", audited.earlier.read("log/checkpoint")):
        verdict = reader()

    assert verdict.code == 1
    assert "by an earlier version of log/checkpoint" in str(verdict.of("false", "versions"))


def test_who_may_not_read_everything_is_told_so(audited, reader):
    """The identity of web servers sees no rows, and that of staging nothing at all."""
    seen = reader(identity="reader")
    assert (seen.code, seen.false) == (2, [])
    assert "cannot be read: the store answered 403" in str(seen.unproved)

    nothing = reader(identity="stager")
    assert (nothing.code, nothing.false) == (2, [])


def test_its_identity_reads_and_no_more(audited):
    client, where = audited.object_store.client("auditor"), {"Bucket": audited.bucket, "Key": HOLD}
    assert client.get_object(**where)["Body"].read() == audited.good.read(HOLD)
    for forbidden in (client.put_object, client.delete_object):
        with pytest.raises(ClientError, match="AccessDenied"):
            forbidden(**where)


def test_a_server_that_does_not_answer_is_told(capsys):
    code = verifier.main(["--s3", "bucket", "--endpoint", "http://127.0.0.1:1", "--key", str(KEY.verifier)])

    assert code == 3
    assert "does not answer" in capsys.readouterr().err


class Breaking(BaseHTTPRequestHandler):
    """Announces more bytes than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Silent."""


def test_a_connection_that_breaks_does_not_look_like_other_bytes():
    """What was not read to its end is not proved, and not false."""
    with HTTPServer(("127.0.0.1", 0), Breaking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bucket = verifier.Bucket(f"http://127.0.0.1:{server.server_port}", "bucket", "", "us-east-1")
        with pytest.raises(verifier.CannotReadError, match="to its end"):
            bucket.read("part")
        bucket.close()
        server.shutdown()


# Logs and stores in other states


def test_a_store_without_a_log_says_what_nothing_vouches_for(audited, copy):
    """The archives are compared with their manifests all the same."""
    copy.remove("log/")

    verdict = verify_evidence(copy.folder, "--versions", audited.versions)

    assert (verdict.code, verdict.false) == (2, [])
    assert "the store has no log" in str(verdict.unproved)
    assert "4 archives with 217 rows are there whole" in str(verdict.of("proved", "archives"))


def test_without_a_key_the_store_only_vouches_for_itself(audited):
    verdict = verify_evidence(audited.good.folder, "--versions", audited.versions, "--since", audited.since)

    assert (verdict.code, verdict.false) == (2, [])
    assert [KEY.name in text and "that only the store knows" in text for text in verdict.unproved] == [True]


def test_a_copy_without_its_listing_does_not_show_versions(audited):
    verdict = verify_evidence(audited.good.folder, "--key", str(KEY.verifier), "--since", audited.since)

    assert (verdict.code, verdict.false) == (2, [])
    assert verdict.unproved == ["versions were not looked at: a copy has one of each object (--versions, --s3)"]


@pytest.mark.parametrize("lost", ["tiles", "bundle", "both"])
def test_a_log_whose_last_writer_died_before_the_tiles_is_read(audited, copy, lost):
    """The entries are in `log/pending/` still, and the next writer makes the rest."""
    size = len(copy.lines())
    if lost in ("tiles", "both"):
        copy.remove(f"log/tile/0/000.p/{size}")
    if lost in ("bundle", "both"):
        copy.remove(f"log/tile/entries/000.p/{size}")

    verdict = audited.verify(copy, "--since", audited.since)

    assert verdict.false == []
    assert verdict.code == (0 if lost == "bundle" else 2)
    assert f"the root in its head is that of its {size} entries" in str(verdict.of("proved", "log"))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600])
def test_a_log_of_any_size_is_read(audited, copy, tmp_path, size):
    """Written by the domain's own code, with full tiles and bundles."""
    first = copy.lines()[0]
    acts = (
        line_of(
            {
                **json.loads(first),
                "subject": [],
                "predicate": {**json.loads(first)["predicate"], "kind": "sweep intended"},
            }
        )
        for _ in range(size - 1)
    )
    (tmp_path / "large" / "metadata").mkdir(parents=True)
    (tmp_path / "large" / "metadata" / "source.json").write_bytes(copy.read("metadata/source.json"))
    write_log(tmp_path / "large", [first, *acts], KEY)

    verdict = verify_evidence(tmp_path / "large", "--key", str(KEY.verifier))

    assert verdict.false == []
    assert f"the root in its head is that of its {size} entries" in str(verdict.of("proved", "log"))
    assert "its tiles are those of the tree" in str(verdict.of("proved", "log"))


def test_an_archive_that_was_given_up_is_not_false_but_lost(audited, copy):
    """`condemned` says so in the log."""
    body = b'{"archive_id": "public.calls.2018-02.0001", "lost_rows": 30}'
    copy.write(CALLS.condemnation_key, body)
    copy.remove(PART)

    def change(acts: list[Any]) -> None:
        act = json.loads(json.dumps(those(acts, "deleted", CALLS)[0]))
        del act["place"]
        act["subject"] = [{"name": CALLS.condemnation_key, "digest": {"sha256": verifier.sha256_of(body)}}]
        act["predicate"] |= {"kind": "condemned", "facts": {"lost_rows": 30}, "at": acts[-1]["predicate"]["at"]}
        acts.append(act)

    copy.rewrite(change)
    verdict = audited.verify(copy)

    assert (verdict.code, verdict.false) == (2, [])
    assert "which was given up by entry" in str(verdict.unproved)


def test_who_knows_an_earlier_key_learns_to_trust_the_later_one(object_store, bucket, tmp_path):
    """`airflow strongroom log rotate` signs the entry that says so with both. Without that head nobody need believe it."""
    later = SignerKey.generate(KEY.name)
    settings = some_settings(bucket, tmp_path).store.model_copy(
        update={"log_keys": (str(later.verifier), str(KEY.verifier))}
    )
    client = object_store.client("archiver")
    begin_log(Store(client, settings, author=Author(lambda: KEY)))
    store = Store(client, settings, author=Author(lambda: later))
    change_key(store, KEY)
    enter(store, Act(kind="purge reported"))
    copy_bucket(object_store.client("admin"), bucket, tmp_path / "copy")

    verdict = verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier))
    assert verdict.false == []
    assert "handed over to" in str(verdict.of("proved", "signature"))

    Copy(tmp_path / "copy").remove("log/rotations/")
    verdict = verify_evidence(tmp_path / "copy", "--key", str(KEY.verifier))
    assert "is not signed by a key that you trust" in str(verdict.false)


def test_a_purge_that_has_not_ended_is_not_proved(audited, copy):
    """Its parts may be gone, some of them or all."""
    copy.rewrite(lambda acts: acts.remove(those(acts, "purged")[0]))
    copy.remove(PURGED.destruction_key, f"{PURGED.evidence_prefix}destruction.tlog-proof")

    verdict = audited.verify(copy)

    assert (verdict.code, verdict.false) == (2, [])
    assert "its purge has begun" in str(verdict.unproved)


def test_a_hold_that_came_after_the_intent_does_not_make_the_purge_false(audited, copy):
    """It stopped what was left, and was released before the end."""

    def change(acts: list[Any]) -> None:
        held, released = those(acts, "held")[0], those(acts, "released")[0]
        for act in (held, released):
            acts.remove(act)
            act["predicate"]["at"] = those(acts, "purged")[0]["predicate"]["at"]
            acts.insert(acts.index(those(acts, "purged")[0]), act)

    copy.rewrite_all(change)

    assert audited.verify(copy).false == []


def test_the_rows_of_parquet_are_not_counted_without_pyarrow(audited, monkeypatch):
    """Its bytes are compared all the same. Without zstandard it is so with lines."""
    monkeypatch.setattr(verifier, "parquet", None)
    verdict = audited.verify(audited.good, "--since", audited.since)
    assert verdict.code == 2
    assert [("parquet" in text, "were not counted" in text) for text in verdict.unproved] == [(True, True)] * 2

    monkeypatch.setattr(verifier, "zstandard", None)
    verdict = audited.verify(audited.good, "--since", audited.since)
    assert len(verdict.unproved) == 6
    assert verdict.false == []


def test_a_store_below_a_prefix_is_audited(audited, tmp_path):
    Copy.of(audited.good.folder, tmp_path / "copy" / "team" / "a")

    verdict = verify_evidence(
        tmp_path / "copy", "--prefix", "team/a", "--key", str(KEY.verifier), "--since", audited.since
    )

    assert verdict.false == []
    assert "4 archives with 217 rows" in str(verdict.of("proved", "archives"))


# Input of every kind

JUNK = [b"", b"{}", b"[]", b"null", b"\xff\xfe\x00", b'{"a":' * 2000, b"9" * 5000, b"\x28\xb5\x2f\xfd" + b"\0" * 30]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_junk_in_place_of_any_object_is_a_finding(audited, copy, junk):
    """All objects at once but the log's; then the log's one by one. Nothing ends in a traceback."""
    for key in copy.names():
        if not key.startswith("log/"):
            copy.write(key, junk)
    verdict = audited.verify(copy)
    assert verdict.code == 1
    assert verdict.of("proved", "log")

    for key in (
        "log/checkpoint",
        f"log/tile/0/000.p/{len(audited.good.lines())}",
        f"log/tile/entries/000.p/{len(audited.good.lines())}",
    ):
        other = Copy.of(audited.good.folder, copy.folder.with_name(key.replace("/", "-")))
        other.write(key, junk)
        assert audited.verify(other).code == 1


WRONG: list[Any] = [None, 7, -1, True, "", "x", [], {}, [[]], "2026-99-99T00:00:00Z", "../../../etc/passwd", "\0"]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_entries_with_fields_of_another_kind_are_findings(audited, copy, wrong):
    """Signed by the log's own key, each field of each kind of entry in turn: a newer program, or a hostile one."""

    def change(acts: list[Any]) -> None:
        last = acts[-1]["predicate"]["at"]
        for act in [*acts]:
            for path in paths_of({name: value for name, value in act.items() if name != "place"}):
                other = json.loads(json.dumps({name: value for name, value in act.items() if name != "place"}))
                other["predicate"]["at"] = last
                *way, name = path
                place = other
                for step in way:
                    place = place[step]
                place[name] = wrong
                if len(acts) < 250:
                    acts.append(other)

    copy.rewrite(change)
    assert audited.verify(copy).code == 1


def paths_of(value: Any) -> Iterator[tuple[Any, ...]]:
    """The ways to all values inside a value."""
    for name, inside in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield (name,)
        yield from ((name, *rest) for rest in paths_of(inside))


@pytest.mark.parametrize("wrong", WRONG[:9], ids=repr)
def test_manifests_and_records_with_fields_of_another_kind_are_findings(audited, copy, wrong):
    """The log vouches for them, as if its key were stolen."""
    for number, (name, kind) in enumerate(
        [
            (CALLS.manifest_key, "archived"),
            (DELETED.manifest_key, "archived"),
            (PURGED.destruction_key, "purged"),
            (DELETED.delete_evidence_key(0), "deleted"),
        ]
    ):
        document = json.loads(copy.read(name))
        paths = [*paths_of(document)]
        for path in paths[number :: max(1, len(paths) // 12)]:
            *way, last = path
            place = document
            for step in way:
                place = place[step] if isinstance(place, (dict, list)) else {}
            if isinstance(place, dict) or (isinstance(place, list) and isinstance(last, int)):
                place[last] = json.loads(json.dumps(wrong))
        copy.write(name, json.dumps(document).encode())

        def change(acts: list[Any], name: str = name, kind: str = kind) -> None:
            for act in those(acts, kind):
                for subject in act["subject"]:
                    if subject["name"] == name:
                        subject["digest"]["sha256"] = verifier.sha256_of(copy.read(name))

        copy.rewrite(change)

    assert audited.verify(copy).code == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"a\n1\nAAAA\n\n",
        b"\xff",
        b"log\n9999999999999999999\nx\n\n",
        "log\n1\n\n— log AAAAAAAA\n".encode(),
        pack_entries([b"x"]),
    ],
)
def test_an_older_checkpoint_that_is_none_is_refused(audited, tmp_path, capsys, body):
    (tmp_path / "since").write_bytes(body)

    assert verifier.main([str(audited.good.folder), "--since", str(tmp_path / "since")]) == 3
    assert "verify_evidence: " in capsys.readouterr().err


def test_an_older_checkpoint_may_be_three_lines_or_a_report(audited, tmp_path):
    """As somebody has them on paper, or in a certificate."""
    note = audited.since.read_bytes()
    (tmp_path / "lines").write_bytes(note[: note.index(b"\n\n") + 1])
    (tmp_path / "certificate.json").write_bytes(audited.good.read(PURGED.destruction_key))

    for name in ("lines", "certificate.json"):
        verdict = audited.verify(audited.good, "--since", tmp_path / name)
        assert (verdict.code, verdict.unproved) == (0, [])


def test_a_drill_that_was_not_made_or_failed_is_not_proved(audited, copy):
    """What came back is said."""

    def change(acts: list[Any]) -> None:
        [none, bad] = those(acts, "drilled", CALLS) + those(acts, "drilled", DELETED)
        acts.remove(none)
        bad["predicate"]["facts"]["result"] = "failed"

    copy.rewrite(change)
    verdict = audited.verify(copy)

    assert f"{CALLS} was chosen by entry" in str(verdict.unproved)
    assert f"{DELETED} did not come back in its last drill" in str(verdict.unproved)
    assert "3 archives came back" in str(verdict.of("proved", "drills"))


# The program itself


def test_it_knows_each_kind_of_act():
    """A new kind needs a line in `KINDS`, and maybe a check of its own."""
    assert set(get_args(Kind)) == verifier.KINDS


@pytest.mark.parametrize("arguments", [[], ["/nowhere"], ["/tmp", "--s3", "b"], ["/tmp", "--key", "nothing"]])
def test_wrong_arguments_end_with_3(arguments, capsys):
    """2 means that not all is proved."""
    try:
        code = verifier.main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert code == 3
    assert "verify_evidence" in capsys.readouterr().err or arguments != ["/tmp", "--key", "nothing"]


def test_it_prints_a_page_that_an_auditor_can_read(audited, tmp_path):
    """As a program of its own, with a key from a file; it keeps the checkpoint for the next audit."""
    (tmp_path / "keys").write_text(f"# the log's\n{KEY.verifier}\n")
    given = [
        audited.good.folder,
        "--key",
        tmp_path / "keys",
        "--keep",
        tmp_path / "kept",
        "--versions",
        audited.versions,
    ]

    done = subprocess.run(
        [sys.executable, "-I", PROGRAM, *map(str, given)], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Evidence in ")
    assert lines[-1] == "Verdict: NOT ALL PROVED. Nothing is false, and 1 thing is not proved."
    assert max(map(len, lines)) <= 118
    assert any(line.startswith("NOT PROVED  anchor     signed, not witnessed") for line in lines)
    assert (tmp_path / "kept").read_bytes() == audited.good.read("log/checkpoint")


def test_a_long_list_of_findings_is_cut_short(audited, copy):
    copy.remove("evidence/", "metadata/")

    done = subprocess.run(
        [sys.executable, "-I", PROGRAM, copy.folder, "--key", str(KEY.verifier)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "more; --json prints all." in done.stdout
    assert "Verdict: FALSE." in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(("name", "allowed"), [("verify_evidence", {"zstandard", "pyarrow"}), ("witness", set())])
def test_the_programs_need_nothing_but_the_standard_library(name, allowed):
    """zstandard and pyarrow only if they are there; nothing of Strongroom."""
    tree = ast.parse((REPOSITORY / "tools" / f"{name}.py").read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert imported - sys.stdlib_module_names == allowed


def test_it_starts_without_any_package(audited):
    """As on a machine that has only Python: no site-packages at all."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", PROGRAM, audited.good.folder, "--key", str(KEY.verifier), "--json"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"]) == (2, "not proved")
    assert "the package zstandard is not installed" in done.stdout
    assert TEXTS.archive_prefix.split("/")[3] in done.stdout


# What a run that died may leave: never false


DEATHS = [
    "before the entry of a seal",
    "before the manifest",
    "before the entry of a delete",
    "before the entry of a purge",
    "before the proof of a purge",
    "before the entry of a report",
    "before the release was written",
]


@pytest.mark.parametrize("died", DEATHS)
def test_what_a_run_that_died_leaves_is_not_false(audited, copy, died):
    """The next run, or `log adopt`, makes it good."""
    if died == "before the entry of a seal":
        for key in (DELETED.seal_key, DELETED.part_key(0, "zstd")):
            copy.write(key.replace("0001", "0002"), copy.read(key))
    elif died == "before the manifest":
        copy.remove(
            DELETED.manifest_key, f"{DELETED.evidence_prefix}delete-", "reports/public.calls/restores/", "restores/"
        )
        copy.remove(f"reports/drills/public.calls/{DELETED}/")

        def change(acts: list[Any]) -> None:
            for kind in ("delete intended", "deleted", "drilled"):
                for act in those(acts, kind, DELETED):
                    acts.remove(act)
            for act in those(acts, "restore begun") + those(acts, "restored"):
                acts.remove(act)

        copy.rewrite_all(change)
    elif died == "before the entry of a delete":
        copy.rewrite_all(lambda acts: acts.remove(those(acts, "deleted", DELETED)[0]))
    elif died == "before the entry of a purge":
        copy.remove(f"{PURGED.evidence_prefix}destruction.tlog-proof")
        copy.rewrite_all(lambda acts: acts.remove(those(acts, "purged")[0]))
    elif died == "before the proof of a purge":
        copy.remove(f"{PURGED.evidence_prefix}destruction.tlog-proof")
        copy.rewrite_all(lambda acts: those(acts, "purge intended")[0]["predicate"].pop("facts"))
    elif died == "before the entry of a report":
        copy.edit("reports/public.calls/restores/restore-1.json", finished_at="2026-12-01T00:00:00Z")
    else:
        hold = json.loads(copy.read(hold_key(RELEASED)))
        body = json.dumps({name: value for name, value in hold.items() if not name.startswith("release")}).encode()
        copy.write(hold_key(RELEASED), body)
        held = verifier.sha256_of(body)
        copy.rewrite_all(lambda acts: those(acts, "held")[0]["subject"][0]["digest"].update(sha256=held))

    verdict = audited.verify(copy)

    assert verdict.false == []
    assert len(verdict.unproved) > (0 if died == "before the proof of a purge" else 1)
