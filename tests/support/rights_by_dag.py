"""An auth manager with rights by DAG, which Airflow's simple one lacks."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

_REFUSED: dict[str, dict[str, str]] = {}


def refuse(user: str, **dags: str) -> None:
    """Refuse a user some DAGs: ``everything``, or only to ``trigger`` them. Earlier refusals stay."""
    _REFUSED.setdefault(user, {}).update(dags)


def refuse_nothing() -> None:
    """Forget all refusals."""
    _REFUSED.clear()


class RightsByDag(SimpleAuthManager):
    """The simple auth manager, which decides by role alone, less what :func:`refuse` took away."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        """What the user's role allows, less what is refused."""
        refused = _REFUSED.get(user.get_name(), {}).get(details.id if details else "")
        if refused == "everything" or (refused == "trigger" and method != "GET"):
            return False
        return bool(super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details))
