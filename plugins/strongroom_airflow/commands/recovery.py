"""`airflow strongroom recovery-kit` and `recover`: what to keep outside, and how to begin again with it."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

from airflow.utils.platform import getuser
from rich.markup import escape
from rich.table import Column, Table

from strongroom.database.session import read_identity
from strongroom.errors import ConfigurationError
from strongroom.ledger.index import write_index
from strongroom.ledger.owner import change_owner
from strongroom.overview.reading import keep_facts, read_facts
from strongroom.recovery.check import StoreState, survey_store
from strongroom.recovery.fill import Filled, fill_store
from strongroom.recovery.kit import SETTINGS, KitStore, describe_store, make_kit, read_kit, read_variables, write_kit
from strongroom.settings import DEFAULT_FILE, FILE_VARIABLE, PREFIX, Settings, TableSettings, load_settings
from strongroom.storage.store import Store
from strongroom_airflow.commands.terminal import command, print_json, print_out, read_settings
from strongroom_airflow.connections import StoreKey, connect_store, store_key
from strongroom_airflow.database_connections import connect_database


@command
def recovery_kit(args: Namespace) -> int:
    """Write a recovery kit into a new folder."""
    now = datetime.now(timezone.utc)
    settings = read_settings()
    if settings.left_out:  # the kit would not know their stores
        raise settings.tell_left_out(*settings.left_out)
    tables = list(settings.tables.values())
    by_store: defaultdict[StoreKey, list[TableSettings]] = defaultdict(list)
    for table in tables:
        by_store[store_key(table)].append(table)
    stores = [describe_store(connect_store(group[0]), group) for group in by_store.values()]
    folder = Path(args.output or f"strongroom-recovery-kit-{now:%Y-%m-%d}")
    file = Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE).expanduser()
    variables = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    written = write_kit(folder, make_kit(stores, tables, now=now), settings_file=file.read_bytes(), variables=variables)
    if args.json:
        print_json({"folder": str(folder), "files": [path.name for path in written]})
    else:
        print_out(escape(f"Wrote {folder}: {', '.join(path.name for path in written)}."))
        print_out(
            "It holds no secret. Keep it where neither the machines nor the buckets are; README.md says what it needs."
        )
    return 0


@command
def recover(args: Namespace) -> int:
    """Check each bucket of a kit, fill it from its replica if asked to, and say what can be restored."""
    folder = Path(args.kit)
    kit = read_kit(folder)
    settings = load_settings(folder / SETTINGS, {**read_variables(folder), **os.environ})
    who, now = args.who or getuser(), datetime.now(timezone.utc)
    if args.fill and args.read_from != "replica":
        raise ConfigurationError(
            "a bucket is filled from the replica only",
            expected="--fill with --from replica",
            hint="Nothing was changed.",
        )
    told, whole = [], True
    for kept in kit.stores:
        state, filled, owner = _recover(settings, kept, args, who, now)
        whole &= state.whole
        told.append(
            state.model_dump(mode="json")
            | {"filled": None if filled is None else filled.model_dump(mode="json"), "new_owner": owner}
        )
        if not args.json:
            _show(state, filled, owner)
    if args.json:
        print_json(told)
    return 0 if whole else 1


def _recover(
    settings: Settings, kept: KitStore, args: Namespace, who: str, now: datetime
) -> tuple[StoreState, Filled | None, str | None]:
    """One store: what it has, what was copied into it, and the database that owns it from now on."""
    table = settings.table(kept.tables[0])
    store = connect_store(table)
    filled = owner = None
    if args.read_from == "replica":
        replica = _replica_of(store)
        if not args.fill:
            state, _ = survey_store(replica, kept, read_from="replica")
            return state, None, None
        store.prepare()
        filled = fill_store(store, replica, kept, who=who, now=now)
    state, survey = survey_store(store, kept)
    if args.new_owner:
        with connect_database(table, table.source_conn_id, application_name="strongroom recover") as connection:
            source = read_identity(connection)
        owner = source.database if change_owner(store, source, who=who) else None
    write_index(store, survey)
    keep_facts(store, read_facts(store, now=now))
    return state, filled, owner


def _replica_of(store: Store) -> Store:
    if store.replica is None:
        raise ConfigurationError(
            f"{store} has no replica",
            expected="`replica.filled_by` and `replica.bucket` in the kit's archive.yaml",
            hint="Nothing was changed. Leave --from out if the bucket itself is there.",
        )
    return store.replica


def _show(state: StoreState, filled: Filled | None, owner: str | None) -> None:
    log = "it has no log, so nothing proves that it is whole" if state.entries is None else f"{state.entries} entries"
    print_out(escape(f"{state.store} belongs to database {state.database}; its log continues the kit's: {log}."))
    if filled is not None:
        print_out(escape(f"Filled from {filled.replica}: {len(filled.archives)} archives, {filled.objects} objects."))
        for one in filled.not_copied:
            print_out(escape(f"Not copied: {one.archive_id}, {one.reason}: {one.detail}"))
    if owner is not None:
        print_out(escape(f"From now on it belongs to database {owner}."))
    rows = Table(
        Column("table", overflow="fold"), *(Column(name, justify="right") for name in ("archives", "rows")), "windows"
    )
    by_table = defaultdict(list)
    for one in state.restorable:
        by_table[one.table].append(one)
    for name, archives in sorted(by_table.items()):
        first, last = min(one.window_start for one in archives), max(one.window_end for one in archives)
        rows.add_row(
            escape(name),
            f"{len(archives):,}",
            f"{sum(one.rows for one in archives):,}",
            f"{first:%Y-%m-%d} to {last:%Y-%m-%d}",
        )
    print_out(rows)
    for words, names in (
        ("under a legal hold", state.held),
        ("superseded by an archive without a person's rows", state.superseded),
        ("destroyed, with a certificate", state.purged),
        ("of which a purge began", state.purging),
        ("lost: the log says that they were sealed", state.lost),
        ("damaged", tuple(f"{one.archive_id} ({one.problem})" for one in state.damaged)),
        (
            "sealed together with an archive that is lost, damaged or destroyed, so they are restored one by one",
            state.parted,
        ),
    ):
        if names:
            print_out(escape(f"{len(names)} {words}: {', '.join(names[:20])}{' …' if len(names) > 20 else ''}"))
