"""The spans of steps, as a collector gets them from a real exporter; and that nothing is made of them without Airflow's tracing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from strongroom.errors import IntegrityError
from strongroom_airflow.tracing import step_span
from tests.support.commands import start
from tests.support.traced import STEPS, span_receiver


def attributes(span: Any) -> dict[str, Any]:
    return {
        one.key.removeprefix("strongroom."): getattr(one.value, one.value.WhichOneof("value"))
        for one in span.attributes
    }


def trace_part(chain, endpoint: str, **environment: str) -> None:
    """Run the steps of the only part of the chain's plan."""
    variables = {
        **os.environ,
        "AIRFLOW__TRACES__OTEL_ON": "True",
        "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        **environment,
    }
    process = start("tests.support.traced", chain.plan().model_dump_json(), environment=variables)
    process.join(120)
    assert process.exitcode == 0


def test_a_collector_gets_a_span_for_each_step_with_table_window_part_rows_bytes_and_store(metadata, chain):
    with span_receiver() as (endpoint, spans):
        trace_part(chain, endpoint)

    ours = {span.name: span for span in spans if span.name.startswith("strongroom.")}
    parents = {span.span_id: span.name for span in spans}
    assert list(ours) == [f"strongroom.{step}" for step, _ in STEPS]
    for step, _ in STEPS:
        span = ours[f"strongroom.{step}"]
        told = attributes(span)
        assert parents[span.parent_span_id] == f"worker.part.{step}"
        assert (told["table"], told["window"], told["part"]) == ("public.audit", "2026-05", 0)
        assert told["store"] == f"s3://{chain.settings.store.bucket}"
        assert told["rows"] == 23
        assert told["original_size_bytes"] > 0
        assert span.end_time_unix_nano > span.start_time_unix_nano
        assert span.status.code == span.status.STATUS_CODE_UNSET
    assert attributes(ours["strongroom.verify"])["compressed_size_bytes"] > 0


def test_a_step_that_fails_ends_its_span_with_our_words_and_no_value_of_a_row(metadata, chain):
    with span_receiver() as (endpoint, spans):
        trace_part(
            chain, endpoint, AIRFLOW_CONN_STRONGROOM_SOURCE='{"conn_type": "postgres", "host": "127.0.0.1", "port": 1}'
        )

    [failed] = [span for span in spans if span.name == "strongroom.extract_to_staging"]
    told = attributes(failed)
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert told["error"].endswith("Error")
    assert told["code"]
    assert "HINT" not in failed.status.message
    assert list(failed.events) == []
    assert [span.name for span in spans if span.name.startswith("strongroom.")] == ["strongroom.extract_to_staging"]


def test_without_tracing_no_span_is_made_and_opentelemetry_is_not_imported():
    program = (
        "import sys\n"
        "from strongroom_airflow.tracing import step_span\n"
        "before = set(sys.modules)\n"
        "with step_span('verify') as span: span.tell({'rows': 1})\n"
        "assert not span.traced\n"
        "print([name for name in set(sys.modules) - before if 'opentelemetry' in name])\n"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize("error", [IntegrityError("it differs", hint="Nothing was deleted."), KeyboardInterrupt()])
def test_an_error_goes_on_as_it_is_with_tracing_and_without(monkeypatch, error):
    for on in ("True", "False"):
        monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", on)
        with pytest.raises(type(error)) as raised, step_span("verify"):
            raise error
        assert raised.value is error


def test_a_step_that_gives_up_its_slot_does_not_look_like_a_failure(monkeypatch):
    from datetime import datetime, timezone

    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "True")

    with pytest.raises(AirflowRescheduleException), step_span("extract_to_staging"):
        raise AirflowRescheduleException(datetime.now(timezone.utc))
