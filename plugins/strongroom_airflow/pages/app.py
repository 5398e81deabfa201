"""Pages that Strongroom adds to Airflow's web server. Airflow decides whether the user may see the DAG's XComs."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XComModel
from fastapi import Depends, FastAPI, HTTPException, status
from fastapi.responses import HTMLResponse

from strongroom_airflow.statistics.keep import PAGE_XCOM

app = FastAPI(openapi_url=None)  # else the list of routes would be public

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
"""The page needs only its own style, so nothing else may load or run."""


@app.get("/{dag_id}/statistics", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))])
def show_statistics(dag_id: str, run_id: str, session: SessionDep) -> HTMLResponse:
    """The page that a run of the statistics DAG made."""
    found = session.scalars(XComModel.get_many(run_id=run_id, dag_ids=dag_id, key=PAGE_XCOM, limit=1)).first()
    page = XComModel.deserialize_value(found) if found is not None else None
    if not isinstance(page, str):
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, "This run has no page: it has not ended, or Airflow has removed it."
        )
    return HTMLResponse(page, headers=_HEADERS)
