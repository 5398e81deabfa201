"""What the steps of an archive run share: settings, the claim, the parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowRuntimeError

from strongroom.errors import ContendedError, StrongroomError
from strongroom.ledger.manifests import sealed_part
from strongroom.records import PlannedPart, VerifiedPart, narrow
from strongroom.settings import load_settings
from strongroom_airflow.archive.run import ArchiveRun
from strongroom_airflow.links import PageLink
from strongroom_airflow.pages.addresses import partition_page
from strongroom_airflow.step import StepOperator
from strongroom_airflow.stopping import StoppedError


class StrongroomOperator(StepOperator):
    """A step of a table's archive run. It holds the partition's claim while it works.

    :param table: Name of the table in archive.yaml.
    """

    operator_extra_links = (PageLink(),)

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = table

    @contextmanager
    def opened(self, context: Context) -> Iterator[ArchiveRun]:
        settings = load_settings()
        table = settings.table(self.table)
        run = ArchiveRun(table, context, settings.members_of(table))
        try:
            self.page = partition_page(run.settings.qualified_name, run.partition.key)
            run.claim()
            yield run
        except StrongroomError as error:
            last_try = context["ti"].try_number > (context["ti"].max_tries or 0)
            # Of a unit, the claims that it did get would keep others away from those tables until the next try.
            some_claims = bool(run.members) and isinstance(error, ContendedError)
            if last_try or not error.retryable or isinstance(error, StoppedError) or some_claims:
                self._release(run)
            raise

    def traced(self, run: ArchiveRun) -> dict[str, Any]:
        store = run.settings.store
        return {
            "table": run.settings.qualified_name,
            "window": run.partition.key,
            "store": f"s3://{store.bucket}/{store.prefix}".removesuffix("/"),
        }

    def _release(self, run: ArchiveRun) -> None:
        """Release the claim, unless other parts of the run work under it."""
        try:
            if not run.others_work():
                run.release()
        except (StrongroomError, AirflowRuntimeError) as error:
            # The error that is being handled matters more, and a claim expires by itself.
            self.log.warning("The claim was not released: %s", str(error).partition("\n")[0])


class PartOperator(StrongroomOperator):
    """A step of one part. If the archive is sealed already, the part's record is taken from its manifest.

    :param part: Record of the part, as the previous step returned it. (templated)
    """

    template_fields: Sequence[str] = ("part",)
    takes: ClassVar[type[PlannedPart]]
    makes: ClassVar[type[PlannedPart]]
    done: ClassVar[str]
    """What the step does, in the past tense, for the log."""

    def __init__(self, *, part: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = part

    def step(self, run: ArchiveRun) -> tuple[str, dict[str, Any], Any]:
        part = self.takes.model_validate(self.part)
        run = run.of(part.archive)
        sealed = sealed_part(run.store, part)
        record = self.work(run, part) if sealed is None else self.work_on_sealed(run, part, sealed)
        done = self.done if sealed is None else f"{self.done} before; the archive is sealed"
        return f"{done}: {part.archive_id} part {part.number}", _facts(record), record.model_dump(mode="json")

    @abstractmethod
    def work(self, run: ArchiveRun, part: Any) -> PlannedPart:
        """Call the domain: one record in, the next one out."""

    def work_on_sealed(self, run: ArchiveRun, part: Any, sealed: VerifiedPart) -> PlannedPart:  # noqa: ARG002 - verify needs both
        """Take the record from the manifest."""
        return narrow(sealed, self.makes)


def _facts(record: PlannedPart) -> dict[str, Any]:
    """What an auditor needs in the log: the fields of the record that identify the rows and bytes."""
    return {
        ("part" if name == "number" else name): getattr(record, name) for name in _EVIDENCE if hasattr(record, name)
    }


_EVIDENCE = (
    "archive_id",
    "number",
    "format",
    "rows",
    "original_size_bytes",
    "original_sha256",
    "blocks_sha256",
    "compression_type",
    "compressed_size_bytes",
    "sha256",
    "object_key",
    "version_id",
    "proved_rows",
)
