"""Run by the code of an earlier version: archive tables, and leave some of them in the middle of a run.

It prints the records that a run would have handed from task to task, by table, and what the version says of itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import strongroom
from strongroom.records import VerifiedPart
from strongroom.settings import TableSettings
from strongroom_local.servers.s3 import ObjectStore
from tests.support import restoring
from tests.support.chain import Chain, some_settings


class LeftError(Exception):
    """The run ends here."""


def leave_in_the_middle(times: int = 2) -> None:
    """What a delete calls in each batch."""
    calls.append(None)
    if len(calls) == times:
        raise LeftError


def run_to(step: str, chain: Chain) -> dict[str, Any]:
    """Run the steps up to one of them. Returns the plan and the parts as tasks hand them on."""
    plan = chain.plan()
    parts: list[Any] = [*plan.parts]
    for name in ("extract", "compress", "checksum", "upload"):
        parts = [getattr(chain, name)(part) for part in parts]
        if name == step:
            break
    else:
        verified: list[VerifiedPart] = [chain.verify(plan, part) for part in parts]
        parts = verified if step == "verify" else [*chain.seal_parts(plan, verified).parts]
    return {"plan": plan.model_dump(mode="json"), "parts": [part.model_dump(mode="json") for part in parts]}


given = json.loads(sys.argv[1])
assert Path(strongroom.__file__).is_relative_to(Path.cwd()), strongroom.__file__
client = ObjectStore(Path(given["store"])).client("archiver")
calls: list[None] = []


def chain_of(table: str) -> Chain:
    known = {
        name: value for name, value in given["changes"].get(table, {}).items() if name in TableSettings.model_fields
    }
    return Chain(
        given["conninfo"], client, some_settings(given["bucket"], given["staging"], f"public.{table}", **known)
    )


left = {table: run_to(step, chain_of(table)) for table, step in given["steps"].items()}
for table in given["whole"]:
    assert chain_of(table).run().outcome == "archived"
restored = chain_of(given["restored"])
assert restored.run().outcome == "archived"
restoring.restore(restored, "restore-of-then")
halfway = chain_of(given["halfway"])
left[given["halfway"]] = run_to("seal", halfway)
halfway.keep_claim = leave_in_the_middle
try:
    halfway.delete(VerifiedPart.model_validate(left[given["halfway"]]["parts"][0]))
    raise AssertionError("the delete was not left in the middle")
except LeftError:
    pass
print(json.dumps(left))
