"""A visitor of Strongroom's pages, logged in to Airflow's simple auth manager in this process."""

from __future__ import annotations

from typing import Any


def visitor(name: str = "ada", role: str = "VIEWER") -> Any:
    """A client for the application of the pages, with the token of a user; of everybody's rights the DAGs decide."""
    # Airflow reads its settings on import, and they exist only now.
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    from strongroom_airflow.pages.app import app

    token = create_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role))
    return TestClient(app, cookies={"_token": token}, follow_redirects=False)
