"""Keys of what is on record beside the archives: claims, orders, holds, evidence, cases, settings, the log, restores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from urllib.parse import unquote

from strongroom.object_keys.layout import (
    CASES,
    CLAIMS,
    EVIDENCE,
    EXACT_INSTANT,
    HOLDS,
    LOG,
    ORDERS,
    RESTORES,
    SETTINGS_FOLDER,
    SUBJECTS,
    SUPPRESSED,
    decode_table,
    encode_name,
    exact_instant,
    narrowed,
    table_folder,
)

_ASKED = "-asked.json"

_CASE_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_SUPPRESSED = re.compile(
    rf"evidence/suppressed/[^/]+/(?P<key_id>[0-9a-f]{{16}})/(?P<token>[0-9a-f]{{64}})/"
    rf"(?P<before>[0-9]{{8}}T[0-9]{{6}}\.[0-9]{{6}}Z)-(?P<case>{_CASE_ID.pattern})\.json"
)


def evidence_prefix(
    schema_name: str | None = None, table_name: str | None = None, partition_key: str | None = None
) -> str:
    """Key prefix of the evidence of all archives that ever existed: of all tables, one table, or one partition."""
    return narrowed(EVIDENCE, schema_name, table_name, partition_key)


def proof_key(key: str) -> str:
    """Key of the proof that the transparency log has a record, or for a copy of a manifest that it has the manifest."""
    return f"{key.removesuffix('.json')}.tlog-proof"


def settings_key(schema_name: str, table_name: str, sha256: str) -> str:
    """Key of the settings of a table whose digest entries of the log name."""
    return f"{settings_prefix(schema_name, table_name)}{sha256}.json"


def settings_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the settings of a table, and of the records that they changed."""
    return f"{EVIDENCE}{table_folder(schema_name, table_name)}{SETTINGS_FOLDER}"


def tables_with_settings(keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Schema and name of each table whose settings are among the keys of evidence, maybe more than once."""
    for key in keys:
        folder, found, _ = key.removeprefix(EVIDENCE).partition(SETTINGS_FOLDER)
        schema_name, dot, table_name = folder.partition(".")
        if found and dot and key.startswith(EVIDENCE):
            yield unquote(schema_name), unquote(table_name)


def settings_change_key(schema_name: str, table_name: str, number: int, sha256: str) -> str:
    """Key of one of these records: its number, from 1, and the digest of the settings that are in force from then on."""
    return f"{settings_prefix(schema_name, table_name)}changes/{number:05d}-{sha256}.json"


def empty_key(schema_name: str, table_name: str, partition_key: str) -> str:
    """Key of the record that a calendar partition had no row to archive when its hot retention was over."""
    return f"{evidence_prefix(schema_name, table_name, partition_key)}empty.json"


def warm_evidence_key(schema_name: str, table_name: str, month: str, at: datetime) -> str:
    """Key of the record that a month's partition of a warm table was dropped."""
    return f"{EVIDENCE}{table_folder(schema_name, table_name)}/warm/{month}/{at:%Y%m%dT%H%M%SZ}.json"


def case_prefix(case_id: str) -> str:
    """Key prefix of all records of the case of one person."""
    return f"{CASES}{case_id}/"


def case_key(case_id: str, name: str, at: datetime | None = None) -> str:
    """Key of one record of a case; what may be written several times has an instant."""
    instant = "" if at is None else f"-{exact_instant(at)}"
    return f"{case_prefix(case_id)}{name}{instant}.json"


def subject_key(case_id: str) -> str:
    """Key of the protected record of who the person is. It is removed when the case ends."""
    return f"{SUBJECTS}{case_id}.bin"


def suppressed_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the tokens of erased persons whose rows must not come back into a table or its archives."""
    return f"{SUPPRESSED}{table_folder(schema_name, table_name)}/"


def suppressed_key(schema_name: str, table_name: str, key_id: str, token: str, case_id: str, before: datetime) -> str:
    """Key of one of these: all that there is to know is in the key, so that a listing reads the whole list."""
    return f"{suppressed_prefix(schema_name, table_name)}{key_id}/{token}/{exact_instant(before)}-{case_id}.json"


def parse_suppressed_key(key: str) -> tuple[str, str, datetime, str] | None:
    """Key id, token, instant and case of a key as :func:`suppressed_key` writes it; None for any other."""
    found = _SUPPRESSED.fullmatch(key)
    if found is None:
        return None
    before = datetime.strptime(found["before"], EXACT_INSTANT).replace(tzinfo=timezone.utc)
    return found["key_id"], found["token"], before, found["case"]


def is_case_id(text: str) -> bool:
    """Whether a text may name a case."""
    return _CASE_ID.fullmatch(text) is not None


def hold_key(hold_id: str) -> str:
    """Key of one legal hold."""
    return f"{HOLDS}{hold_id}.json"


def rotation_key(size: int) -> str:
    """Key of the checkpoint that two keys of the log signed when one replaced the other."""
    return f"{LOG}rotations/{size}"


def witness_prefix(key_id: str) -> str:
    """Key prefix of the cosignatures of a witness, one for each size that it saw."""
    return f"{LOG}witness/{key_id}/"


def refusal_prefix(key_id: str) -> str:
    """Key prefix of the heads that a witness refused, each named by the instant."""
    return f"{LOG}witness/refused/{key_id}/"


def release_proof_key(hold_id: str, sha256: str) -> str:
    """Key of the proof that the transparency log has the release of a hold. Each try to release it has its own digest."""
    return f"{EVIDENCE}holds/{hold_id}-released-{sha256}.tlog-proof"


def questions_prefix(run_id: str) -> str:
    """Key prefix of what one run of the retention purge asked, and of the answers."""
    return f"{EVIDENCE}purges/{encode_name(run_id)}/"


def question_key(run_id: str, number: int) -> str:
    """Key of the record of what a run asked a person to approve; each question has a number."""
    return f"{questions_prefix(run_id)}{number:04d}{_ASKED}"


def is_question(key: str) -> bool:
    """Whether a key below :func:`questions_prefix` is one of :func:`question_key`."""
    return key.endswith(_ASKED)


def answer_key(question: str) -> str:
    """Key of the answer to a question, from its key."""
    return f"{question.removesuffix(_ASKED)}-answered.json"


def restores_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the records of what was restored into one table."""
    return f"{RESTORES}{table_folder(schema_name, table_name)}/"


def restored_table(key: str) -> str:
    """The table (``schema.table``) into which a restore came, from the key of its record or of its report."""
    return decode_table(key.split("/")[1])


def claims_prefix(schema_name: str, table_name: str) -> str:
    """Key prefix of the claims on the partitions of one table."""
    return f"{CLAIMS}{table_folder(schema_name, table_name)}/"


def claim_key(schema_name: str, table_name: str, partition_key: str) -> str:
    """Key of the claim on one partition."""
    return f"{claims_prefix(schema_name, table_name)}{partition_key}.json"


def orders_key(schema_name: str, table_name: str) -> str:
    """Key of the orders to running steps of one table."""
    return f"{ORDERS}{table_folder(schema_name, table_name)}.json"
