"""The transparency log of a store: its head is sound, our key may sign it, and its witnesses still look."""

from __future__ import annotations

from datetime import datetime, timedelta

from strongroom.checks.doors import Doors
from strongroom.checks.result import Checklist
from strongroom.errors import ConfigurationError
from strongroom.ledger.journal import cosignatures, log_of
from strongroom.settings import TableSettings
from strongroom.storage.store import Store

_FRESH = timedelta(days=2)
"""How old the newest cosignature of a witness may be before it is worth a word; the witness of tools/witness.py looks every few minutes."""


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

    def sound() -> str:
        return f"{log.head().checkpoint.size} entries"

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
    for key in table.store.witness_keys:
        name = str(key).partition("+")[0]
        seen = max((at for verifier, _, at in cosignatures(store) if str(verifier) == str(key)), default=None)
        what = f"the witness {name} has cosigned the log within {_FRESH.days} days"
        hint = "See on the witness's host why it does not run: docs/howto/verify-evidence.md#run-a-witness."
        if seen is None:
            checks.warning(what, "it never has", hint)
        elif now - seen > _FRESH:
            checks.warning(what, f"last on {seen:%Y-%m-%d %H:%M} UTC", hint)
        else:
            checks.ok(what, f"{seen:%Y-%m-%d %H:%M} UTC")
