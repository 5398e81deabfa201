"""A part of an archive run with tracing on, in a process of its own: the provider of spans is one for a whole process.

`main` is what :func:`tests.support.commands.start` runs. Its settings and connections are in its environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from threading import Thread
from typing import Any

from strongroom.errors import StrongroomError
from tests.support.operating import context_of

STEPS = (
    ("extract_to_staging", "ExtractToStagingOperator"),
    ("compress", "CompressOperator"),
    ("checksum", "ChecksumOperator"),
    ("upload", "UploadOperator"),
    ("verify", "VerifyOperator"),
)


def main() -> int:
    """Run the steps of the part of a plan, below a span that stands for Airflow's own. The plan is the first argument, as JSON."""
    from airflow.sdk._shared.observability.traces import configure_otel
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import AirflowFailException
    from opentelemetry import trace

    configure_otel(conf)
    plan = json.loads(sys.argv[1])
    [part] = plan["parts"]
    for step, name in STEPS:
        operator = getattr(import_module(f"strongroom_airflow.archive.{step}"), name)
        more = {"extract_to_staging": {"last_step": "part.verify"}, "verify": {"plan": plan}}.get(step, {})
        with trace.get_tracer("a test").start_as_current_span(f"worker.part.{step}"):
            task = operator(task_id=step, table="audit", part=part, **more)
            context = context_of("archive__audit", "2026-05")
            context["ti"].try_number, context["ti"].max_tries = 1, 3
            try:
                part = task.execute(context)
            except (StrongroomError, AirflowFailException):
                break
    provider = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):
        provider.force_flush(10_000)
    return 0


@contextmanager
def span_receiver() -> Iterator[tuple[str, list[Any]]]:
    """A collector on loopback that takes OTLP over HTTP: its address, and the spans that it was sent."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            spans.extend(span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", spans
    finally:
        server.shutdown()
        server.server_close()
