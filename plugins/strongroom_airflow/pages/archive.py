"""One archive: each of its objects, and the commands with which a stranger checks and reads it."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from strongroom.audit.certificate import make_certificate_page, read_kept
from strongroom.ledger.holds import covering
from strongroom.ledger.units import covering_unit
from strongroom.object_keys.archives import ArchiveId
from strongroom.overview.commands import check_commands
from strongroom.overview.details import MOST_OBJECTS, ArchiveDetails, read_details
from strongroom.storage.store import Store
from strongroom_airflow.connections import connect_store
from strongroom_airflow.pages.actions import QUERY_DAG, Choice
from strongroom_airflow.pages.addresses import ARCHIVE, PARTITION, QUERY, page
from strongroom_airflow.pages.gathering import gathering
from strongroom_airflow.pages.latest_runs import find_run
from strongroom_airflow.pages.rendering import HEADERS, render
from strongroom_airflow.pages.rights import no_such, rights_of
from strongroom_airflow.trigger import may_trigger

router = APIRouter()


@router.get(ARCHIVE)
def show_archive(user: GetUserDep, session: SessionDep, id: str) -> HTMLResponse:
    """The page of one archive."""
    archive, store, details, problem = _find(user, id)
    manifest = details.manifest if details else None
    facts = gathering.facts(seconds=0)
    placed = [hold for known in facts.store_facts for hold in known.holds]
    holding = covering(placed, archive) if manifest is None else covering_unit(placed, manifest)
    holds = {hold.hold_id: hold for hold in holding}
    readings = [known.readings[id] for known in facts.store_facts if id in known.readings]
    choices = []
    if manifest is not None and may_trigger(QUERY_DAG, user):
        choices.append(Choice("Look at its first rows", page(QUERY, archive=id)))
    return render(
        "archive.html",
        archive=archive,
        details=details,
        manifest=manifest,
        most=MOST_OBJECTS,
        commands=check_commands(
            manifest,
            bucket=store.settings.bucket,
            prefix=store.settings.prefix,
            endpoint_url=_endpoint(store),
        )
        if manifest and manifest.parts and store
        else [],
        store_name=str(store) if store else "",
        successor=facts.successor_of(id),
        archive_page=lambda archive_id: page(ARCHIVE, id=archive_id),
        holds=list(holds.values()),
        reading=max(readings, key=lambda one: one.at, default=None),
        run=find_run(session, manifest.dag_id, manifest.run_id) if manifest else None,
        choices=choices,
        partition_page=page(PARTITION, table=f"{archive.schema_name}.{archive.table_name}", key=archive.partition_key),
        table=f"{archive.schema_name}.{archive.table_name}",
        manifest_page=page(f"{ARCHIVE}/manifest", id=id),
        certificate_page=page(f"{ARCHIVE}/certificate", id=id),
        problems=[*([problem] if problem else []), *(details.problems if details else ())],
    )


@router.get(f"{ARCHIVE}/manifest")
def download_manifest(user: GetUserDep, id: str) -> Response:
    """The bytes of the manifest, as the store has them."""
    archive, _, details, problem = _find(user, id)
    if details is None or details.manifest is None:
        raise no_such("sound manifest", problem or id)
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="{archive}.json"'}
    return Response(details.manifest.to_json(), media_type="application/json", headers=headers)


@router.get(f"{ARCHIVE}/certificate")
def download_certificate(user: GetUserDep, id: str) -> Response:
    """The certificate of destruction as a page to print. Its style is inside, so it is a file and no page of ours."""
    archive, store, details, problem = _find(user, id)
    if store is None or details is None or details.certificate is None:
        raise no_such("certificate of destruction", problem or id)
    page = make_certificate_page(read_kept(store, archive), made_at=datetime.now(timezone.utc))
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="certificate {archive}.html"'}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


def _find(user: GetUserDep, name: str) -> tuple[ArchiveId, Store | None, ArchiveDetails | None, str | None]:
    """The archive with its store and details, or why they could not be read. Refuses what does not exist or may not be seen."""
    archive = ArchiveId.parse_or_none(name)
    if archive is None:
        raise no_such("archive", name)
    table = f"{archive.schema_name}.{archive.table_name}"
    facts = gathering.facts()
    rights = rights_of(user)
    if not rights.sees_table(facts.settings, table):
        raise no_such("archive", name)
    opener = facts.store_table(table)
    if opener is None:
        raise no_such("archive", name)

    def ask() -> tuple[Store, ArchiveDetails | None]:
        store = connect_store(opener)
        return store, read_details(store, archive)

    found, problem = gathering.ask(ask)
    if found is None:
        return archive, None, None, problem
    if found[1] is None:
        raise no_such("archive", name)
    return archive, *found, None


def _endpoint(store: Store) -> str | None:
    """The address of a store that is not Amazon's."""
    address = str(store.client.meta.endpoint_url)
    return None if address.endswith(".amazonaws.com") else address
