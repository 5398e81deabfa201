"""Which page a task's button opens, and how its address is written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from strongroom.object_keys.archives import ArchiveId
from strongroom_airflow.links import PageLink, page_of_archives, page_of_hold
from strongroom_airflow.pages.addresses import archive_page, map_page, partition_page

MARCH, APRIL = (ArchiveId("public", "audit", month, 1) for month in ("2026-03", "2026-04"))
AGAIN = ArchiveId("public", "audit", "2026-04", 2)
CALL = ArchiveId("ops", "calls", "2026-04", 1)


@pytest.mark.parametrize(
    ("archives", "page"),
    [
        ([MARCH], archive_page("public.audit.2026-03.0001")),
        ([APRIL, AGAIN], partition_page("public.audit", "2026-04")),
        ([MARCH, APRIL], map_page("public.audit")),
        ([APRIL, CALL], map_page()),
        ([], map_page()),
    ],
)
def test_a_button_opens_the_closest_page_that_shows_all_archives_of_its_task(archives, page):
    assert page_of_archives(archives) == page


@pytest.mark.parametrize(
    ("what", "page"),
    [
        ("public.audit.2026-03.0001", archive_page("public.audit.2026-03.0001")),
        ("public.audit.2026-03", partition_page("public.audit", "2026-03")),
        ("public.audit", map_page("public.audit")),
        ("*", map_page()),
        ("public.odd%2Fname.2026-03", partition_page("public.odd/name", "2026-03")),
    ],
)
def test_the_button_of_a_hold_opens_what_it_covers(what, page):
    assert page_of_hold(what) == page


@pytest.mark.parametrize("base", ["", "http://localhost:8080", "https://example.com/airflow"])
def test_a_button_has_an_address_below_that_of_the_web_server(monkeypatch, base):
    """Airflow's page has a base URL of its own, so it works under whatever name the browser knows the server by."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    operator = SimpleNamespace(page=archive_page(str(MARCH)))

    link = PageLink().get_link(operator, ti_key=None)

    inside = "/airflow" if base.endswith("/airflow") else ""
    assert link == f"plugin/archive{inside}/strongroom/object?id=public.audit.2026-03.0001"


def test_a_task_that_never_found_its_object_has_no_button():
    """Airflow shows none for an empty address."""
    assert PageLink().get_link(SimpleNamespace(page=""), ti_key=None) == ""


def test_every_dag_has_buttons_on_the_tasks_that_work_on_an_archive(metadata, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    from tests.support.repository import REPOSITORY

    monkeypatch.setenv("STRONGROOM_CONFIG", str(REPOSITORY / "include" / "config" / "archive.yaml"))
    bag = DagBag(REPOSITORY / "dags", bundle_path=REPOSITORY / "dags", load_op_links=False)

    def with_button(dag_id: str) -> set[str]:
        return {
            task.task_id
            for task in bag.dags[dag_id].tasks
            if any(isinstance(link, PageLink) for link in task.operator_extra_links)
        }

    assert with_button("archive__audit_events") >= {"part.upload", "part.verify", "seal", "delete", "report"}
    assert with_button("restore_archive") == {"locate", "thaw", "restore", "report"}
    assert with_button("retention_purge") == {"decide", "purge", "report"}
    assert with_button("verify_archives") == {"locate", "verify", "report"}
    assert with_button("legal_hold") == {"hold"}
    assert with_button("archive_statistics") == {"statistics"}
