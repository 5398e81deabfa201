"""Ids, keys and names from outside that try to lead elsewhere: each is refused, and nothing outside the prefix is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from strongroom.calendar import Frequency, Partition
from strongroom.errors import StrongroomError
from strongroom.ledger.holds import place_hold, release_hold
from strongroom.ledger.restore_records import make_restore_id
from strongroom.object_keys.archives import ArchiveId
from strongroom.settings import StoreSettings
from strongroom.statistics.proofs import verify_archive
from strongroom.storage.staging_folder import FolderStaging
from strongroom_local.servers.ports import LOOPBACK
from tests.support.chain import NOW, Chain, some_settings
from tests.support.proxies import HoldingProxy, proxied_client
from tests.support.restoring import restore

HOSTILE = (
    "",
    " ",
    ".",
    "..",
    "../../holds/x",
    "/etc/passwd",
    "public.audit.2026-05.0001/../../../holds/x",
    "public.audit.2026-05.0001\n",
    "public..2026-05.0001",
    "public.../...2026-05.0001",
    "public.%2e%2e%2f.2026-05.0001",
    "public.%00.2026-05.0001",
    "public.%FF.2026-05.0001",
    "public.audit.２０２６-05.0001",
    "public.audit.2026-99.0001",
    "2026-05\n",
    "2026-05/../2026-06",
    "2026-5",
    "２０２６-05",
    "a\0b",
    "a\x7f\u202eb",
    "x" * 5000,
    "'; DROP TABLE audit; --",
    "s3://elsewhere/x",
    "20261123T120000Z-1f2e3d4c/../../archives/x",
)


@pytest.fixture
def chain(source, object_store, bucket, tmp_path):
    """An archived month below a prefix, through a proxy that writes down what is asked of the store."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        connection.execute("INSERT INTO audit SELECT n, '2026-05-02'::timestamptz FROM generate_series(1, 5) n")
    asked: list[str] = []

    def watch(moment: Any) -> bool:
        asked.append(moment.what)
        return True

    with HoldingProxy(watch) as proxy:
        proxy.forward_to(LOOPBACK, object_store.port)
        store = StoreSettings(bucket=bucket, prefix="team/a")
        client = proxied_client(object_store, proxy)
        chain = Chain(source, client, some_settings(bucket, tmp_path / "staging", store=store))
        chain.run()
        chain.asked = asked
        yield chain


def doors(chain: Chain) -> dict[str, Callable[[str], object]]:
    """Every way in for a word from outside."""
    return {
        "partition": lambda word: Partition.parse(Frequency.MONTHLY, word),
        "any partition": Partition.named,
        "verify": lambda word: verify_archive(chain.store, ArchiveId.parse(word)),
        "hold": lambda word: place_hold(chain.store, word, why="a", who="b", reference="c", now=NOW),
        "release": lambda word: release_hold(chain.store, word, who="a", reason="b", now=NOW),
        "restore archives": lambda word: restore(chain, "one", archives=[word]),
        "restore table": lambda word: restore(chain, "two", table=word),
        "restore from": lambda word: restore(chain, "three", first_partition=word),
        "restore to": lambda word: restore(chain, "four", last_partition=word),
        "restore target": lambda word: restore(chain, "five", target=word),
        "restore keys": lambda word: restore(chain, "six", keys=[[word]]),
        "restore since": lambda word: restore(chain, "seven", since=word),
    }


@pytest.mark.parametrize("apart", [4, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_no_word_from_outside_leads_past_the_prefix(chain, bucket, tmp_path, apart):
    """Each is refused with an error of ours. (A key list may be empty text, and a hold may name what is not there yet.)

    In `make test` every fourth word, at each door others.
    """
    accepted = set()
    for number, (name, door) in enumerate(doors(chain).items()):
        for word in HOSTILE[number % apart :: apart]:
            if not word and name in ("restore from", "restore to"):
                continue  # an end that is left empty is open
            try:
                door(word)
                accepted.add((name, word))
            except (StrongroomError, ValidationError):
                continue

    harmless = {"public.%2e%2e%2f.2026-05.0001", "public.%00.2026-05.0001", "public.%FF.2026-05.0001"}
    assert {(name, word) for name, word in accepted if not (name == "hold" and word in harmless)} == set()
    paths = {what.split(" ", 1)[1] for what in chain.asked}
    outside = {path for path in paths if not path.startswith((f"/{bucket}/team/a/", f"/{bucket}?"))}
    assert {path for path in outside if "prefix=team/a/" not in path and path != f"/{bucket}"} == set()
    assert {path for path in paths if "/../" in path} == set()
    assert {path.name for path in tmp_path.iterdir()} == {"staging"}
    with psycopg.connect(chain.conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (0,)


@pytest.mark.parametrize("run_id", [word for word in HOSTILE if len(word) <= 250])
def test_the_scratch_space_of_a_restore_is_a_folder_of_its_own(tmp_path, run_id):
    """Whatever the run is called, clearing its scratch space removes nothing else."""
    kept = tmp_path / "restores" / "another" / "file"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    name = make_restore_id(run_id)

    staging = FolderStaging(tmp_path / "restores", name)
    staging.clear()

    assert Path(staging.folder).resolve().parent == (tmp_path / "restores").resolve()
    assert "/" not in name
    assert kept.read_text() == "kept"
