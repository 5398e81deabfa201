"""The transparency log of a store: its head is sound, our key may sign it, and its witnesses still look."""

from __future__ import annotations

from datetime import datetime, timedelta

from strongroom.checks.doors import Doors
from strongroom.checks.result import Checklist
from strongroom.errors import ConfigurationError
from strongroom.ledger.journal import log_of
from strongroom.ledger.witnesses import newest_cosignature, refused_at, witness_keys
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_FRESH = timedelta(days=2)
"""How old the newest cosignature of a witness may be before it is worth a word, if the log has grown since; tools/witness.py looks every
few minutes, and cosigns each head once."""


def check_log(checks: Checklist, table: TableSettings, store: Store, doors: Doors, now: datetime) -> None:
    """Try the log of a table's store.

    Args:
        checks: Where results are noted.
        table: Whose settings name the keys.
        store: With the archiver's keys.
        doors: How to reach the key that signs.
        now: Aware instant.
    """
    log = log_of(store)
    if log is None:
        checks.warning(
            "what is done with archives is entered in a transparency log",
            "store.log_keys names no key, so nobody outside can prove that records are complete",
            "airflow strongroom log key NAME      # then docs/howto/verify-evidence.md",
        )
        return

    entries: list[int] = []

    def sound() -> str:
        entries.append(log.head().checkpoint.size)
        return f"{entries[0]} entries"

    def signs() -> str:
        signer = doors.signing_key(table)
        if str(signer.verifier) not in map(str, table.store.log_keys):
            raise ConfigurationError(
                f"the key in {table.log_conn_id} is not one that the settings trust",
                expected="a key of store.log_keys",
                found=str(signer.verifier),
                hint="Put the private key that belongs to the first key of `store.log_keys` into the connection's password; to change "
                "keys: airflow strongroom log rotate.",
            )
        return signer.name

    checks.attempt("the transparency log is there, and its head is signed by a trusted key", sound)
    checks.attempt("the key for entries in the log is one that the settings trust", signs)
    for key in witness_keys(table.store):
        seen, refused = newest_cosignature(store, key), refused_at(store, key)
        what = f"the witness {key.name} has cosigned the log within {_FRESH.days} days"
        hint = "See on the witness's host why it does not run: docs/howto/verify-evidence.md#run-a-witness."
        if refused is not None and (seen is None or refused > seen.at):
            refusing = "Keep the witness's folder, and follow docs/runbooks/StrongroomWitnessRefuses.md."
            checks.failed(
                what, f"it refused a head on {refused:%Y-%m-%d %H:%M} UTC: the log did not only grow", refusing
            )
        elif seen is None:
            checks.warning(what, "it never has", hint)
        elif now - seen.at > _FRESH and [seen.checkpoint.size] != entries:
            checks.warning(what, f"last on {seen.at:%Y-%m-%d %H:%M} UTC", hint)
        else:
            checks.ok(what, f"{seen.at:%Y-%m-%d %H:%M} UTC, over {seen.checkpoint.size} entries")
