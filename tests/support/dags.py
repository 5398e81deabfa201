"""The repository's DAGs as Airflow reads them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.repository import REPOSITORY


def read_dags(name: str, **variables: str) -> dict[str, Any]:
    """The DAGs of one file, by id, with the repository's own archive.yaml. Reading them looks into Airflow's database.

    Args:
        name: Of the file, without its ending.
        variables: Further variables of the environment.
    """
    from airflow.dag_processing.dagbag import DagBag

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRONGROOM_CONFIG", str(REPOSITORY / "include" / "config" / "archive.yaml"))
        for variable, value in variables.items():
            patch.setenv(variable, value)
        bag = DagBag(REPOSITORY / "dags" / f"{name}.py", load_op_links=False)
    assert bag.import_errors == {}
    return dict(bag.dags)


def fill_in(dag: Any, values: Mapping[str, Any]) -> None:
    """Fill in the form of a DAG, as for a run that is not started.

    Raises:
        ParamValidationError: Airflow would not start it.
    """
    params = copy.deepcopy(dag.params)
    params.update(values)
    params.validate()
