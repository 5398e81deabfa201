"""The page of an archive: its objects as the store has them now, and how a stranger checks them."""

from __future__ import annotations

from strongroom.ledger.holds import covered, place_hold
from strongroom.ledger.manifests import read_manifest
from strongroom.object_keys.archives import ArchiveId
from strongroom.storage.store import Store
from tests.support.chain import NOW, some_settings
from tests.support.database import execute
from tests.support.erasing import supersede
from tests.support.logs import AUTHOR, KEY, with_log
from tests.support.rights_by_dag import refuse
from tests.support.sealing import seal_month
from tests.support.units import ORDERS, SECTION, UnitChain, unit_settings
from tests.support.vault import Vault

MAY = "public.audit.2026-05.0001"


def test_each_object_is_there_with_its_version_and_sum(ada, archived):
    """What the page says of the part is what the store says."""
    [part] = read_manifest(archived.store, ArchiveId.parse(MAY)).parts

    page = ada.get("/object", id=MAY)

    assert page.status == 200
    for words in (part.object_key, part.version_id, part.sha256, "11 rows of public.audit", "AES256", "there"):
        assert str(words) in page.text, words
    assert "<b>missing</b>" not in page.html


def test_the_place_of_its_seal_in_the_log_shows(ada, deployment, object_store, bucket, tmp_path):
    deployment.tables(audit={"date_column": "at"})
    deployment.store(object_store, bucket)
    deployment.log(KEY)
    settings = with_log(some_settings(bucket, tmp_path))
    seal_month(Store(object_store.client("archiver"), settings.store, author=AUTHOR), settings, "2026-05")

    page = ada.get("/object", id=MAY)

    assert "entry 1 of the store’s log" in page.text
    assert "sealed.tlog-proof" in page.text


def test_the_manifest_is_downloaded_byte_for_byte(ada, archived, object_store):
    key = ArchiveId.parse(MAY).manifest_key
    bucket = archived.settings.store.bucket
    stored = object_store.client("admin").get_object(Bucket=bucket, Key=key)["Body"].read()

    got = ada.get("/object/manifest", id=MAY)

    assert got.html.encode() == stored
    assert got.headers["content-disposition"] == f'attachment; filename="{MAY}.json"'
    assert got.headers["content-type"] == "application/json"


def test_the_certificate_of_a_destroyed_archive_is_downloaded_to_print(ada, bob, chain, object_store):
    """As a file, because its style is inside. Who may not see the table gets none."""
    vault = Vault(object_store, chain.settings)
    gone = str(seal_month(chain.store, chain.settings, "2016-05"))
    vault.purge("2016-05", now=NOW)

    assert "Download it to print" in ada.get("/object", id=gone).links
    got = ada.get("/object/certificate", id=gone)

    assert got.headers["content-disposition"] == f'attachment; filename="certificate {gone}.html"'
    assert f"Certificate of destruction {gone}/" in got.html
    assert ada.get("/object/certificate", id=MAY).status == 404
    assert bob.get("/object/certificate", id=gone.replace("audit", "payroll")).status == 404


def test_a_part_that_is_gone_or_hidden_is_named(ada, chain, object_store, bucket):
    chain.run()
    admin = object_store.client("admin")
    [part] = read_manifest(chain.store, ArchiveId.parse(MAY)).parts
    admin.delete_object(Bucket=bucket, Key=part.object_key)
    assert "hidden by another version or a delete marker" in ada.get("/object", id=MAY).text

    admin.delete_object(Bucket=bucket, Key=part.object_key, VersionId=part.version_id, BypassGovernanceRetention=True)

    page = ada.get("/object", id=MAY)
    assert page.status == 200
    assert "<b>missing</b>" in page.html


def test_a_manifest_that_is_damaged_is_shown_as_that(ada, chain, object_store, bucket):
    """The page says what is wrong, and offers no manifest to download."""
    chain.run()
    object_store.client("admin").put_object(Bucket=bucket, Key=ArchiveId.parse(MAY).manifest_key, Body=b"{}")

    page = ada.get("/object", id=MAY)

    assert page.status == 200
    assert "HINT:" in page.text
    assert ada.get("/object/manifest", id=MAY).status == 404
    assert ada.get("/archive").cells()["public.audit/2026-05"][0] == "unverifiable"


def test_a_hold_on_it_shows(ada, chain):
    chain.run()
    place_hold(chain.store, "public.audit", why="case B", who="eve", reference="R/2", now=NOW)

    page = ada.get("/object", id=MAY)

    assert "on hold" in page.text
    assert "R/2: case B, by eve" in page.text


def test_only_who_may_search_is_offered_to_look_inside(ada, carol, archived):
    assert "Look at its first rows" in ada.get("/object", id=MAY).links
    assert "Look at its first rows" not in carol.get("/object", id=MAY).links
    refuse("ada", query_archive="trigger")
    assert "Look at its first rows" not in ada.get("/object", id=MAY).links


def test_what_is_not_there_and_what_may_not_be_seen_have_the_same_words(bob, ada, chain, bucket, tmp_path, subtests):
    hidden = str(seal_month(chain.store, some_settings(bucket, tmp_path, "payroll"), "2026-05"))
    named = (hidden, "public.payroll.2026-04.0001", "public.none.2026-04.0001")

    for path in ("/object", "/object/manifest"):
        with subtests.test(path=path):
            assert ada.get(path, id=hidden).status == 200

            answers = [bob.get(path, id=name) for name in named]

            assert [answer.status for answer in answers] == [404] * 3
            words = {answer.text.split("There is no ")[1].split(",")[1] for answer in answers}
            kinds = {answer.text.split("There is no ")[1].split(" ")[0] for answer in answers[:2]}
            assert words == {" or you do not have the right to see it. Back to the map"}
            assert len(kinds) == 1


def test_a_name_that_is_no_archive_is_not_found(ada, archived):
    for name in ("", "public.audit", "../../etc/passwd", "public.audit.2026-05.1", "a" * 5000, "\0"):
        page = ada.get("/object", id=name)

        assert page.status == 404, name
        assert len(page.text) < 1000


def test_an_archive_that_is_superseded_says_so_and_so_does_its_successor(ada, chain):
    """The partition counts its rows once."""
    chain.run()
    supersede(chain, ArchiveId.parse(MAY), "id", "7")
    successor = MAY.replace("0001", "0002")

    earlier, later = (ada.get("/object", id=one) for one in (MAY, successor))
    partition = ada.get("/partition", table="public.audit", key="2026-05")

    waits = "removed when the cooling-off of case DSR-7 is over"
    assert f"Superseded by {successor} . It is {waits}" in earlier.text
    assert f"It supersedes {MAY} for case DSR-7: 1 rows removed, 0 blanked" in later.text
    assert "not deleted yet" not in later.text
    assert f"{MAY} is superseded by {successor} and not counted. It is {waits}" in partition.text
    assert f"supersedes {MAY} for case DSR-7" in partition.text


def test_an_archive_of_a_unit_names_those_that_it_belongs_with_and_a_hold_on_any_of_them(
    ada, deployment, source, object_store, bucket, tmp_path
):
    execute(source, ORDERS)
    deployment.tables(**SECTION)
    deployment.store(object_store, bucket)
    deployment.database(source, "source")
    unit = UnitChain(source, object_store.client("archiver"), unit_settings(bucket, tmp_path))
    unit.seal(unit.plan())
    place_hold(unit.store, covered("public", "line_notes"), who="ada", why="fraud", reference="Case 4711", now=NOW)

    page = ada.get("/object", id="public.orders.2026-05.0001")

    assert "sealed together with public.order_lines.2026-05.0001 (270 rows)" in page.text
    assert "public.line_notes.2026-05.0001 (120 rows)" in page.text
    assert "/object?id=public.order_lines.2026-05.0001" in page.html
    assert "Case 4711: fraud, by ada" in page.text
