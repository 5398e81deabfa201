"""Who may see and do what on the pages: what Airflow's auth manager says about the DAGs.

A table is seen by whoever may read its DAG. A table without a DAG (its settings are gone or wrong) is seen by whoever may read
`retention_purge`, which lists every archive there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from fastapi import HTTPException, status

from strongroom.settings import Settings
from strongroom_airflow.trigger import may_trigger

ALL_ARCHIVES_DAG = "retention_purge"


@dataclass(frozen=True)
class Rights:
    """What one user may do at this moment."""

    user: BaseUser
    readable: frozenset[str]

    def sees(self, dag_id: str) -> bool:
        """Whether the user may read a DAG."""
        return dag_id in self.readable

    def may_trigger(self, dag_id: str) -> bool:
        """Whether the user may start runs of a DAG."""
        return may_trigger(dag_id, self.user)

    def sees_table(self, settings: Settings, table: str) -> bool:
        """Whether the user may see a table (`schema.table`), configured or not."""
        dag_id = archive_dag(settings, table)
        return self.sees(ALL_ARCHIVES_DAG if dag_id is None else dag_id)

    def require_table(self, settings: Settings, table: str) -> None:
        """Refuse a table that the user may not see, with the same words as one that does not exist."""
        if not self.sees_table(settings, table):
            raise no_such("table", table)

    def require_trigger(self, dag_id: str) -> None:
        """Refuse a user who may not start runs of a DAG."""
        if not self.may_trigger(dag_id):
            raise HTTPException(
                status.HTTP_403_FORBIDDEN,
                f"Starting a run of {dag_id} needs the right to trigger that DAG. Nothing was started.",
            )


def rights_of(user: BaseUser) -> Rights:
    """Ask the auth manager once which DAGs a user may read."""
    return Rights(user, frozenset(get_auth_manager().get_authorized_dag_ids(user=user, method="GET")))


def archive_dag(settings: Settings, table: str) -> str | None:
    """The DAG that archives a table (`schema.table`); None if the settings do not name it."""
    for one in settings.tables.values():
        if one.qualified_name == table:
            return f"archive__{one.run_slug}"
    return None


def no_such(kind: str, name: str) -> HTTPException:
    """The answer for what does not exist, and for what the user may not see."""
    return HTTPException(
        status.HTTP_404_NOT_FOUND, f"There is no {kind} {name[:200]}, or you do not have the right to see it."
    )
