"""Start runs of Strongroom's DAGs. Commands and pages do it here, and in no other way.

A run's id is made from what it is asked to do, so that two clicks, or a command that was typed twice, start one run. A page calls
:func:`trigger_partition` and :func:`trigger_conf` in the web server. Both ask Airflow whether the user may trigger the DAG, write
the user's name into the run, and add a line to Airflow's audit log as its own API does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.exceptions import AirflowException, DagRunAlreadyExists
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType
from jsonschema import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from strongroom.errors import StrongroomError
from strongroom.ledger.restore_records import make_restore_id

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

FINISHED = frozenset({DagRunState.SUCCESS, DagRunState.FAILED})

_PREFIXES = {"restore_archive": "restore"}
"""How the ids of a DAG's runs begin, if that is not the name of the DAG."""

_AUDITED_AS = "trigger_dag_run"
"""The name of the event in Airflow's audit log, which its own API writes too."""


class RunError(StrongroomError):
    """A run was not started, or it failed."""

    code = "SR-111"


class UnderWayError(RunError):
    """The same work is under way already, so no second run was started.

    Attributes:
        run_id: The run that does it.
    """

    code = "SR-112"

    def __init__(self, what: str, *, run_id: str, hint: str) -> None:
        super().__init__(what, found=f"run {run_id}", hint=hint)
        self.run_id = run_id


class ParameterError(RunError):
    """A parameter of a run cannot be used.

    Attributes:
        field: Its name.
    """

    code = "SR-105"

    def __init__(self, what: str, *, field: str, hint: str, expected: str | None = None) -> None:
        super().__init__(what, expected=expected, hint=hint)
        self.field = field


@dataclass(frozen=True)
class Starter:
    """Who starts a run.

    Attributes:
        name: As the run and Airflow's audit log name the person.
        through: What the person uses.
        user_id: Of a user of Airflow.
    """

    name: str
    through: DagRunTriggeredByType
    user_id: str | None = None


@dataclass(frozen=True)
class Begun:
    """A run that was asked for.

    Attributes:
        run_id: Airflow's id of it.
        found: ``started`` now, ``running`` already, or ``ran`` before.
        state: Airflow's state of it.
    """

    run_id: str
    found: str
    state: str


def trigger_partition(dag_id: str, partition_key: str, user: BaseUser, note: str | None = None) -> str:
    """Start a run of one partition for a user of Airflow; returns its id. A partition that ran before runs again.

    Args:
        dag_id: Of the table, such as ``archive__audit_events``.
        partition_key: Such as ``2026-05``.
        user: Who acts.
        note: The user's own words about the run. Airflow keeps them as its note, and no outcome takes their place.

    Raises:
        UnderWayError: A run of this partition has not ended.
        RunError: The user may not, the DAG is paused or unknown, or Airflow refused the key.
    """
    starter = _require_right(dag_id, user)
    refuse_a_paused_dag(dag_id)
    begun = begin_partition(
        dag_id, partition_key, starter, again=True, note=note, hint="Nothing was started. Choose another partition."
    )
    if begun.found == "running":
        raise UnderWayError(
            f"{partition_key} is being archived already by {dag_id}",
            run_id=begun.run_id,
            hint="No second run was started. Follow that run; if it has failed tasks, clear them.",
        )
    return begun.run_id


def trigger_conf(dag_id: str, conf: Mapping[str, Any], user: BaseUser, note: str | None = None) -> str:
    """Start a run with these parameters for a user of Airflow; returns its id. Parameters that are left out have their defaults.

    Args:
        dag_id: Such as ``restore_archive``.
        conf: By the names of the DAG's parameters; JSON values.
        user: Who acts.
        note: As in :func:`trigger_partition`.

    Raises:
        ParameterError: The DAG has no such parameter, or refuses its value.
        UnderWayError: A run with the same parameters has not ended.
        RunError: The user may not, the DAG is paused or unknown, or Airflow refused.
    """
    starter = _require_right(dag_id, user)
    refuse_a_paused_dag(dag_id)
    _require_valid(dag_id, conf)
    begun = begin_request(dag_id, conf, starter, note=note, hint="Nothing was started. Correct the parameters.")
    if begun.found == "running":
        raise UnderWayError(
            f"{dag_id} is doing just this already",
            run_id=begun.run_id,
            hint="No second run was started. Follow that run.",
        )
    return begun.run_id


def may_trigger(dag_id: str, user: BaseUser) -> bool:
    """Whether Airflow lets a user trigger a DAG. Only the web server knows."""
    from airflow.api_fastapi.app import get_auth_manager

    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )


def begin_partition(
    dag_id: str, key: str, starter: Starter, *, again: bool, hint: str, note: str | None = None
) -> Begun:
    """Start the run of a partition, unless one is under way, or this function started one before and ``again`` is false.

    Raises:
        RunError: Airflow refused, with its reason and the hint.
    """
    with create_session() as session:
        found = session.execute(
            select(DagRun.run_id, DagRun.state)
            .where(DagRun.dag_id == dag_id, DagRun.partition_key == key)
            .order_by(DagRun.id)
        ).all()
    for run_id, state in found:
        if state not in FINISHED:
            return Begun(run_id, "running", str(state))
    states = dict(map(tuple, found))
    numbered = (f"{key}__byhand__{number}" for number in count(1))
    taken = []
    while (run_id := next(numbered)) in states:
        taken.append(run_id)
    if taken and not again:
        return Begun(taken[-1], "ran", str(states[taken[-1]]))
    started = start(dag_id, run_id, starter, partition_key=key, note=note, hint=hint)
    return Begun(run_id, "started" if started else "running", str(DagRunState.QUEUED))


def begin_request(
    dag_id: str, conf: Mapping[str, Any], starter: Starter, *, hint: str, note: str | None = None
) -> Begun:
    """Start a run whose id is made from its parameters, unless one with the same parameters has not ended.

    Raises:
        RunError: Airflow refused, with its reason and the hint.
    """
    digest = hashlib.sha256(json.dumps(dict(conf), sort_keys=True).encode()).hexdigest()[:12]
    named = conf.get("table") or next(iter(conf.get("archives") or ()), None)
    what = make_restore_id(str(named or conf.get("what") or conf.get("hold_id") or "nothing"))
    for number in count(1):
        run_id = f"{_PREFIXES.get(dag_id, dag_id)}__{what}__{digest}__{number}"
        state = state_of(dag_id, run_id)
        if state is None and start(dag_id, run_id, starter, conf=conf, note=note, hint=hint):
            return Begun(run_id, "started", str(DagRunState.QUEUED))
        if state not in FINISHED:
            return Begun(run_id, "running", str(state or DagRunState.QUEUED))
    raise AssertionError("there is always a next number")


def start(
    dag_id: str,
    run_id: str,
    starter: Starter,
    *,
    hint: str,
    partition_key: str | None = None,
    conf: Mapping[str, Any] | None = None,
    note: str | None = None,
) -> bool:
    """Start a run; False if a run of that name exists, for example when the same command was typed twice at once.

    Raises:
        RunError: Airflow refused, with its reason and the hint.
    """
    try:
        with create_session(scoped=False) as session:
            run = trigger_dag(
                dag_id,
                triggered_by=starter.through,
                triggering_user_name=starter.name,
                run_id=run_id,
                partition_key=partition_key,
                conf=dict(conf or {}),
                session=session,
            )
            if note:
                run.note = (note, starter.user_id)
            if starter.user_id is not None:
                session.add(_audit(dag_id, run_id, starter, partition_key, conf))
    except DagRunAlreadyExists:
        return False
    except IntegrityError:  # Airflow looked for a run of that name and found none; then another process was faster
        if state_of(dag_id, run_id) is None:
            raise
        return False
    except (AirflowException, ValueError) as error:
        what = f"Airflow did not start {dag_id}{f' for {partition_key}' if partition_key else ''}"
        reason, _, _ = str(error).partition("\nHINT:")  # an error of Strongroom's timetable has a hint of its own
        raise RunError(what, found=" ".join(reason.split()), hint=hint) from None
    return True


def refuse_a_paused_dag(dag_id: str, *, wait: bool = True, instead: str = "") -> None:
    """Refuse to start a run that would never begin.

    Args:
        dag_id: Of the run.
        wait: Whether somebody waits for the run. If not, it may stay queued.
        instead: What else can be done, for the hint.

    Raises:
        RunError: Airflow does not know the DAG, or it is paused and somebody waits.
    """
    paused = is_paused(dag_id)
    if paused is None:
        raise _unknown(dag_id)
    if paused and wait:
        raise RunError(
            f"{dag_id} is paused, and the scheduler starts no run of a paused DAG",
            hint=f"Nothing was started. Run `airflow dags unpause {dag_id}` first{instead}.",
        )


def is_paused(dag_id: str) -> bool | None:
    """Whether a DAG is paused; None if Airflow does not know it."""
    with create_session() as session:
        return session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id))


def state_of(dag_id: str, run_id: str) -> str | None:
    """State of a run; None if there is no such run."""
    with create_session() as session:
        return session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))


def _require_right(dag_id: str, user: BaseUser) -> Starter:
    if not may_trigger(dag_id, user):
        raise RunError(
            f"{user.get_name()} may not trigger {dag_id}",
            hint="Nothing was started. Ask an administrator of Airflow for the right to trigger this DAG.",
        )
    return Starter(user.get_name(), DagRunTriggeredByType.UI, user_id=user.get_id())


def _require_valid(dag_id: str, conf: Mapping[str, Any]) -> None:
    """Compare the parameters with what the DAG declares, and name the field of the first one that it refuses."""
    with create_session(scoped=False) as session:
        row = session.scalar(SerializedDagModel.latest_item_select_object(dag_id))
        params = None if row is None else row.dag.params
    if params is None:
        raise _unknown(dag_id)
    for field in conf:
        if field not in params:
            raise ParameterError(
                f"{dag_id} has no parameter {field}",
                field=field,
                hint=f"Nothing was started. Its parameters are {', '.join(params)}.",
            )
    for field, param in params.deep_merge(conf).items():
        try:
            param.resolve(raises=True)
        except ValidationError as error:  # its message quotes the value, which may name rows
            raise ParameterError(
                f"the parameter {field} of {dag_id} cannot be used",
                field=field,
                expected=f"{error.validator} {error.validator_value}",
                hint="Nothing was started. Correct this field and try again.",
            ) from None


def _unknown(dag_id: str) -> RunError:
    return RunError(
        f"Airflow knows no DAG named {dag_id}",
        hint="Nothing was started. `airflow dags list-import-errors` shows what is wrong with the DAGs.",
    )


def _audit(
    dag_id: str, run_id: str, starter: Starter, partition_key: str | None, conf: Mapping[str, Any] | None
) -> Log:
    """A line of Airflow's audit log. It names the parameters that were given, but not their values: a restore may name keys of rows."""
    extra = {
        "method": "POST",
        "through": "Strongroom",
        "partition_key": partition_key,
        "parameters": sorted(conf or ()),
    }
    return Log(
        event=_AUDITED_AS,
        owner=starter.name,
        owner_display_name=starter.name,
        extra=json.dumps({name: value for name, value in extra.items() if value}),
        dag_id=dag_id,
        run_id=run_id,
    )
