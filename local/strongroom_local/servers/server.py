"""What the embedded servers share: a folder with state, a process that outlives us, and a lock around start and stop."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from strongroom_local.servers.ports import PortClaims
from strongroom_local.servers.processes import (
    Account,
    ServerError,
    exclusively,
    kill_group,
    let_go,
    read_record,
    record_of,
    require_space,
    spawn,
    stop,
    tail,
    wait_until,
    write_private,
    write_record,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_STOP_SECONDS = 20


class LocalServer(ABC):
    """One server, kept in a folder across restarts. The folder holds its state, log and process record.

    Args:
        folder: Where it lives; created if missing.
        port: TCP port to use; None reuses the last port, or chooses a free one.
    """

    kind: ClassVar[str]
    """The kind of server, for messages."""
    program: ClassVar[str]
    """The product's name, for messages."""
    state_name: ClassVar[str]
    """The file with the state that is kept across restarts."""
    process_name: ClassVar[str]
    """The base name of its log and process record."""
    stop_signal: ClassVar[int]
    """The signal that asks it to end."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / f"{self.process_name}.log"
        self._demanded_port = port
        self._state_file = self.folder / self.state_name
        self._pid_file = self.folder / f"{self.process_name}.pid"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        record = read_record(self._pid_file)
        return record.pid if record is not None and record.alive else None

    @property
    def running(self) -> bool:
        """Whether the server process is alive, no matter who started it."""
        return self.pid is not None

    def start(self) -> None:
        """Start the server and wait until it answers. The first start creates what it needs. Safe to repeat.

        Raises:
            ServerError: No program, no space, no reachable folder, or the server did not start; quotes its log.
            PortTakenError: The demanded port is in use.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusively(self.folder), PortClaims() as claims:
            if self.running:
                return
            require_space(self.folder)
            self._launch(claims)

    def stop(self) -> None:
        """Stop the server cleanly, so that it can write its data. Safe to repeat."""
        if not self.folder.exists():
            return
        with exclusively(self.folder):
            record = read_record(self._pid_file)
            if record is not None:
                stop(record, signal_number=self.stop_signal, timeout_seconds=_STOP_SECONDS)
                self._clear_up()
            self._pid_file.unlink(missing_ok=True)

    def destroy(self) -> None:
        """Stop the server and remove its folder with everything it stored."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def _launch(self, claims: PortClaims) -> None:
        """Start the server. It is not running, and its folder is locked for us. Its ports stay claimed until it answers."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it accepts requests."""

    def _clear_up(self) -> None:  # noqa: B027 (most servers leave nothing)
        """Remove what the server leaves outside its folder."""

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            raise ServerError(
                f"there is no {self.kind} in {self.folder}", hint="nothing is lost; start it first"
            ) from None
        return state

    def _keep_state(self, state: Mapping[str, Any]) -> None:
        write_private(self._state_file, json.dumps(state))

    def _run_until_it_answers(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        folder: Path,
        timeout_seconds: float,
        account: Account | None = None,
    ) -> bool:
        """Start the process and wait until it answers; False if it ended instead, for example because its port was taken.

        Args:
            command: Program and arguments.
            environment: Its complete environment.
            folder: Its working folder.
            timeout_seconds: How long it may take before it is killed.
            account: The user it runs as; None means the current user.
        """
        process = spawn(command, log=self.log, environment=environment, folder=folder, account=account)
        record = record_of(process)
        if record is None:
            return False
        write_record(self._pid_file, record)
        if (
            wait_until(lambda: process.poll() is not None or self._answers(), timeout_seconds)
            and process.poll() is None
        ):
            let_go(process)
            return True
        kill_group(record)
        process.wait()
        self._pid_file.unlink(missing_ok=True)
        return False

    def _gave_up(self, where: Path, untouched: str) -> ServerError:
        """The error for a server that does not start, with the end of its log."""
        return ServerError(
            f"{self.program} does not start in {where}",
            found=tail(self.log),
            hint=f"{untouched}; read the full log in {self.log}",
        )
