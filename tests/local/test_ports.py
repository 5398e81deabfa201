"""Stacks that start at the same time get ports of their own, though a server binds its port long after it was chosen."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from strongroom_local.servers.ports import LOOPBACK, PortClaims, choose_ports
from strongroom_local.servers.stack import Stack

CLAIM_AND_WAIT = """
import sys
from strongroom_local.servers.ports import PortClaims

with PortClaims() as claims:
    print(claims.claim(int(sys.argv[1])), flush=True)
    sys.stdin.read()
"""


class HalfwayError(Exception):
    """Ends a start."""


@pytest.fixture
def two_stacks(session_folder: Path) -> Iterator[tuple[Stack, Stack]]:
    """Two stacks that never ran and would like the same ports."""
    first, second = (Stack(session_folder / name) for name in ("first-stack", "second-stack"))
    first.start_source()
    first.down()
    second.make_folders()
    shutil.copy(first.state_file, second.state_file)
    yield first, second
    for stack in (first, second):
        stack.destroy()


def ports_of(stack: Stack) -> set[int]:
    """The ports of Airflow's API and of the exporter."""
    state = json.loads(stack.state_file.read_text())
    return {state["port"], state["exporter_port"]}


def test_two_stacks_that_start_at_once_choose_different_ports(two_stacks):
    """The second starts while the first prepares its databases and has bound neither port."""
    first, second = two_stacks
    wanted = ports_of(first)

    def start_the_other(stage: str) -> None:
        if stage == "preparing databases":
            second.start_source()
            raise HalfwayError

    with pytest.raises(HalfwayError):
        first.up(start_the_other)

    assert ports_of(first) == wanted
    assert not ports_of(first) & ports_of(second)


def test_a_claim_holds_against_other_processes_until_its_process_ends():
    """Also if that process is killed."""
    [port] = choose_ports(1)
    command = [sys.executable, "-c", CLAIM_AND_WAIT, str(port)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
        PortClaims() as ours,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"

        assert not ours.claim(port)
        assert port not in ours.choose(20)
        other.kill()
        other.wait()

        assert ours.keep([port])
        assert ours.claim(port)


def test_a_port_that_somebody_bound_cannot_be_claimed():
    """Nor can one that was claimed before and is bound by now: a server may have bound it."""
    with closing(socket.create_server((LOOPBACK, 0))) as stranger, PortClaims() as claims:
        assert not claims.claim(stranger.getsockname()[1])
        [port] = claims.choose(1)

        with closing(socket.create_server((LOOPBACK, port))):
            assert not claims.claim(port)
