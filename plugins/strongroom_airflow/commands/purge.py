"""`airflow strongroom purge`: start a run of the retention purge and follow it, or print what it would destroy and why."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from strongroom.retention.decide import Decision, sum_up
from strongroom.retention.policy import PurgePolicies, PurgePolicy
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import connect_stores
from strongroom_airflow.retention.run import judge_store

_COLOURS = {"purge": "red", "left_out": "yellow", "unverifiable": "yellow", "held": "green"}


@command
def purge(args: Namespace) -> int:
    """Start a run of the DAG, which alone destroys anything, and follow it; or print what it would destroy."""
    if args.dry_run:
        return _show_decisions(args)
    from strongroom_airflow.commands.purge_run import run_purge  # a dry run needs none of Airflow's models

    return run_purge(args)


def _show_decisions(args: Namespace) -> int:
    settings = read_settings()
    now = args.at.astimezone(timezone.utc) if args.at else datetime.now(timezone.utc)
    decisions: list[tuple[Decision, PurgePolicy]] = []
    for store in connect_stores(settings):
        policies = PurgePolicies(settings, store, now)
        decisions += [(one, policies.of(one.archive)) for one in judge_store(settings, store, now=now)]
    summary = sum_up(decision for decision, _ in decisions)
    if args.json:
        print_json([_as_json(decision, policy) for decision, policy in decisions])
    else:
        shown = [one for one in decisions if args.all or one[0].reason != "kept"]
        if shown:
            print_out(_decisions_table(shown))
            _explain_approval([one for one in shown if one[0].purge])
        counts = ", ".join(f"{number} {reason}" for reason, number in sorted(summary.counts.items()))
        next_term = f"; the next term ends on {summary.next_expiry_at:%Y-%m-%d}" if summary.next_expiry_at else ""
        print_out(f"As of {now:%Y-%m-%d %H:%M} UTC: {counts or 'there is no archive'}{next_term}. Nothing was removed.")
    return 1 if summary.counts.get("unverifiable") else 0


def _as_json(decision: Decision, policy: PurgePolicy) -> dict[str, Any]:
    return decision.model_dump(mode="json") | {"needs_approval": policy.approval, "policy": policy.why}


def _explain_approval(decisions: Sequence[tuple[Decision, PurgePolicy]]) -> None:
    """Say of each table with an archive to purge why a person must approve, or why nobody need."""
    for table, why in sorted({one.archive.table_folder: policy.why for one, policy in decisions}.items()):
        print_out(f"{table}: {why}")


def _decisions_table(decisions: Sequence[tuple[Decision, PurgePolicy]]) -> Table:
    numbers = (Column(name, justify="right", no_wrap=True) for name in ("rows", "bytes"))
    table = Table(Column("archive", overflow="fold"), *numbers, "decision", Column("reason", overflow="fold"))
    for one, policy in decisions:
        asks = ", after approval" if one.purge and policy.approval else ""
        verdict = "purge" if one.purge else one.reason
        table.add_row(
            one.archive_id,
            "?" if one.record_count is None else f"{one.record_count:,}",
            "?" if one.compressed_size is None else decimal(one.compressed_size),
            f"[{_COLOURS.get(verdict, 'default')}]{verdict}{asks}[/]",
            escape(one.detail),
        )
    return table
