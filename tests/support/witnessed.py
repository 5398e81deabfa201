"""A log in a bucket, and a witness of it: the program in tools/, with the rights of its own identity."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from strongroom.ledger.entries import Act
from strongroom.ledger.journal import enter
from strongroom.ledger.log import Log
from strongroom.storage.author import Author
from strongroom.storage.store import Store
from strongroom.tlog.notes import VerifierKey
from strongroom_local.servers.s3 import ObjectStore
from tests.support.audited import Copy
from tests.support.chain import some_settings
from tests.support.logs import KEY, with_log
from tests.support.synthetic_log import write_log
from tests.support.tools import load_tool

witness = load_tool("witness")


class Watch:
    """A new log, and the folder and rights of a witness whose key :meth:`make_key` makes."""

    def __init__(self, object_store: ObjectStore, bucket: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        access_key, secret_key = object_store.keys("witness")
        patch.setenv("AWS_ACCESS_KEY_ID", access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        self.admin, self.bucket, self.folder = object_store.client("admin"), bucket, folder
        self.settings = with_log(some_settings(bucket, folder)).store
        self.store = Store(object_store.client("archiver"), self.settings, author=Author(lambda: KEY))
        self.where = ["--s3", bucket, "--endpoint", object_store.endpoint_url, "--log-key", str(KEY.verifier)]
        Log(self.store, KEY.name, [KEY.verifier]).create(KEY)

    def make_key(self) -> VerifierKey:
        """Make the witness's key; returns its public half."""
        return VerifierKey.parse(witness.make_key("witness.test/one", self.folder / "state"))

    def grow(self, entries: int = 1) -> None:
        """Enter one act, and then copies of its entry, all at once."""
        head = enter(self.store, Act(kind="purge reported"))
        if head is not None and entries > 1:
            size = head.checkpoint.size
            log = Log(self.store, KEY.name, [KEY.verifier])
            log.append(log.entries(size - 1, size) * (entries - 1), KEY)

    def look(self, *arguments: str, at: datetime | None = None) -> int:
        """Let the witness look once; returns its exit code.

        Args:
            at: What its clock says; None is now.
        """
        if at is None:
            return int(witness.main(["--state", str(self.folder / "state"), *self.where, "--once", *arguments]))

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return at.astimezone(tz)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(witness, "datetime", Clock)
            return self.look(*arguments)

    def read(self, key: str) -> bytes:
        body: bytes = self.admin.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def write(self, key: str, body: bytes) -> None:
        self.admin.put_object(Bucket=self.bucket, Key=key, Body=body)

    def rewrite(self, size: int) -> None:
        """Put a log of other entries over this one, signed with the log's own key, tiles and all."""
        folder = self.folder / "forged"
        write_log(folder, [b"forged %d" % number for number in range(size)], KEY)
        for name in Copy(folder).names():
            self.write(name, (folder / name).read_bytes())

    @property
    def cosigned(self) -> list[int]:
        """The sizes that lie in the bucket with a cosignature."""
        names = (key.removeprefix("log/witness/") for key in self.store.keys("log/witness/"))
        return sorted(int(name.partition("/")[2]) for name in names if not name.startswith("refused/"))
