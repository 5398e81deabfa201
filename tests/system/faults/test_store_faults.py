"""The store refuses requests, stalls, drops connections, and lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.errors import IntegrityError, StoreError
from strongroom.ledger.holds import place_hold, read_holds, release_hold
from strongroom.ledger.journal import begin_log
from tests.support.proxies import (
    Exchange,
    cut_in_answer,
    cut_in_request,
    lose_answer,
    pretend,
    refuse,
    store_other_bytes,
)
from tests.system.faults.scenario import Scene, side_by_side
from tests.system.faults.steps import Steps

WEATHER: dict[str, Callable[[Exchange], None]] = {
    "500 InternalError": refuse(500, "InternalError"),
    "503 SlowDown": refuse(503, "SlowDown"),
    "a reset in the middle of the request": cut_in_request,
    "a reset in the middle of the answer": cut_in_answer,
    "an answer that is lost": lose_answer,
}
PLACES = {
    "plan": ("PUT", "/claims/"),
    "upload": ("PUT", "/part-00001"),
    "verify": ("GET", "/part-00001"),
    "seal": ("PUT", "/metadata/"),
    "delete": ("PUT", "/evidence/"),
    "report": ("PUT", "/reports/"),
}
ALWAYS = 1000


@pytest.mark.exhaustive
@pytest.mark.parametrize("weather", WEATHER)
def test_a_store_that_fails_once_is_asked_again(scene: Scene, weather):
    def fail_at(step: str) -> None:
        scenario = scene.scenario()
        scenario.prepare(step)

        with scenario.boundaries() as (place, proxy):
            rule = proxy.on(*PLACES[step], WEATHER[weather])
            Steps(place).run(step)

        assert rule.met == 1
        scenario.recover(step, "retry")
        scenario.require_all_archived()
        scenario.examine(f"{weather}, once", recovered="by itself")

    side_by_side(fail_at, list(PLACES))


@pytest.mark.exhaustive
@pytest.mark.parametrize("weather", WEATHER)
def test_a_store_that_keeps_failing_fails_the_step_and_nothing_else(scene: Scene, weather):
    def fail_at(step: str) -> None:
        scenario = scene.scenario()
        scenario.prepare(step)

        with scenario.boundaries() as (place, proxy):
            rule = proxy.on(*PLACES[step], WEATHER[weather], times=ALWAYS)
            with pytest.raises(StoreError, match="the store failed to"):
                Steps(place).run(step)

        assert rule.met > 1
        scenario.recover(step, "retry")
        scenario.require_all_archived()
        scenario.examine(f"{weather}, until the step gave up", recovered="retry", faults=rule.met)

    side_by_side(fail_at, list(PLACES))


def test_a_store_that_says_nothing_is_given_up_on(scene: Scene):
    scenario = scene.scenario()
    scenario.prepare("upload")
    settings = scenario.place.settings
    hasty = settings.model_copy(
        update={"store": settings.store.model_copy(update={"max_attempts": 0, "read_timeout_seconds": 3})}
    )

    with scenario.boundaries() as (place, proxy):
        proxy.hold("PUT", "/part-00000", "request")
        with pytest.raises(StoreError, match=r"[Tt]imed? ?out"):
            Steps(replace(place, settings=hasty)).run("upload")

    scenario.recover("upload", "retry")
    scenario.require_all_archived()
    scenario.examine("a request that is never answered", recovered="retry")


def test_a_hold_whose_answer_was_lost_is_in_force_and_said_to_be(scene: Scene):
    """The client retries and finds its own hold. It is placed once and released once."""
    scenario = scene.scenario()
    what = f"public.{scenario.ledger.table}"

    with scenario.boundaries() as (place, proxy):
        store = place.chain().store
        begin_log(store)
        proxy.on("PUT", "/holds/", lose_answer)
        hold = place_hold(store, what, why="a case", who="ada", reference="4711", now=place.now)
        proxy.on("PUT", "/holds/", lose_answer)
        released = release_hold(store, hold.hold_id, who="ada", reason="closed", now=place.now)

    assert read_holds(store=scenario.place.chain().store) == [released]


def flip_a_bit(body: bytes) -> bytes:
    place = len(body) // 2
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


LIES = {
    "a part said to be stored": ("upload", "/part-00001", "verify", "clearing plan"),
    "a manifest said to be stored": ("seal", "/metadata/", "seal", "retry"),
    "SHA256SUMS said to be stored": ("seal", "/SHA256SUMS", "seal", "retry"),
}


@pytest.mark.parametrize(("step", "key", "finds", "how"), LIES.values(), ids=LIES.keys())
def test_a_success_that_was_none_is_found_before_a_row_is_deleted(scene: Scene, step, key, finds, how):
    scenario = scene.scenario()
    scenario.prepare(step)

    with scenario.boundaries() as (place, proxy):
        proxy.on("PUT", key, pretend)
        _run_until_found(Steps(place), step, finds)

    assert sorted(scenario.ledger.live()) == sorted(scenario.ledger.rows.values())
    scenario.recover(step, how)
    scenario.require_all_archived()
    scenario.examine("200 without having stored", recovered=how)


FALSEHOODS = {
    "a part": ("upload", "/part-00001", "verify", "clearing plan"),
    "a manifest": ("seal", "/metadata/", "seal", "removing the object, then retry"),
    "SHA256SUMS": ("seal", "/SHA256SUMS", "seal", "removing the object, then retry"),
}


@pytest.mark.parametrize(
    "object_", [pytest.param(one, marks=[pytest.mark.exhaustive] if one != "a part" else []) for one in FALSEHOODS]
)
def test_other_bytes_than_were_sent_are_found_before_a_row_is_deleted(scene: Scene, object_):
    step, key, finds, how = FALSEHOODS[object_]
    scenario = scene.scenario()
    scenario.prepare(step)
    admin = scene.object_store.client("admin")

    with scenario.boundaries() as (place, proxy):
        proxy.on("PUT", key, store_other_bytes(admin, flip_a_bit))
        _run_until_found(Steps(place), step, finds)

    assert sorted(scenario.ledger.live()) == sorted(scenario.ledger.rows.values())
    if how.startswith("removing"):
        _remove(scene, admin, scenario.ledger.table, key)
    scenario.recover(step, "clearing plan" if how == "clearing plan" else "retry")
    scenario.require_all_archived()
    scenario.examine("200 with other bytes stored", recovered=how)


def _run_until_found(steps: Steps, step: str, finds: str) -> None:
    """Run the steps up to the one that must detect the lie."""
    if step != finds:
        steps.run(step)
    with pytest.raises(IntegrityError):
        steps.run(finds)


def _remove(scene: Scene, admin: Any, table: str, key: str) -> None:
    """Do what an operator does after being told that an object is not what was written."""
    pages = admin.get_paginator("list_object_versions").paginate(Bucket=scene.bucket, Prefix=f"{table}/")
    found = [one for page in pages for one in page["Versions"] if key in f"/{one['Key']}"]
    newest = max(found, key=lambda one: one["LastModified"])
    admin.delete_object(Bucket=scene.bucket, Key=newest["Key"], VersionId=newest["VersionId"])
