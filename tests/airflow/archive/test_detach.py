"""The operators that detach partitions and drop them, on real servers."""

from __future__ import annotations

import psycopg

from strongroom.ledger.evidence import DetachEvidence
from strongroom.retention.drop_detached import DetachedResult
from tests.support.operating import context_of


def test_the_operators_detach_a_partition_keep_it_while_it_cools_off_and_say_so(metadata, chain):
    from strongroom_airflow.archive.detach import DetachOperator
    from strongroom_airflow.retention.drop_detached import PurgeDetachedOperator

    sealed = chain.seal(chain.plan())
    parts = [part.model_dump(mode="json") for part in sealed.parts]

    detached = DetachOperator(task_id="detach", table="audit", parts=parts).execute(
        context_of("archive__audit", "2026-05")
    )
    while_archived = PurgeDetachedOperator(task_id="detached").execute(context_of("retention_purge"))
    chain.store.swap(
        claim := "claims/public.audit/2026-05.json",
        chain.store.read(claim)[0].replace(b'"held"', b'"released"'),
        etag=chain.store.read(claim)[1],
    )
    afterwards = PurgeDetachedOperator(task_id="detached").execute(context_of("retention_purge"))

    evidence = DetachEvidence.model_validate(detached)
    assert [(one.partition, one.rows) for one in evidence.detached] == [("public.may", 23)]
    assert [DetachedResult.model_validate(one).result for one in while_archived] == ["contended"]
    assert [DetachedResult.model_validate(one).result for one in afterwards] == ["kept"]


def test_rows_that_are_in_no_partition_that_may_go_are_left_to_the_delete_with_the_reason(metadata, chain):
    from strongroom_airflow.archive.detach import DetachOperator

    with psycopg.connect(chain.conninfo, autocommit=True) as connection:
        connection.execute("CREATE VIEW of_may AS SELECT * FROM may")
    parts = [part.model_dump(mode="json") for part in chain.seal(chain.plan()).parts]

    detached = DetachOperator(task_id="detach", table="audit", parts=parts).execute(
        context_of("archive__audit", "2026-05")
    )

    assert [(one["partition"], one["reason"]) for one in detached["left"]] == [
        ("public.may", "it is read by public.of_may")
    ]
