"""What Airflow reads of Strongroom as a provider: light in every process, and complete on the command line."""

from __future__ import annotations

import subprocess
import sys

from strongroom_airflow.provider import get_cli_commands, get_provider_info


def modules_after(program: str) -> set[str]:
    """The modules that a fresh Python has imported after a program."""
    program += "; import sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ended.stdout.splitlines()[-1].split())


def test_the_entry_point_imports_nothing_of_airflow_or_the_domain():
    """Every Airflow process reads it, the web server too."""
    imported = modules_after("from strongroom_airflow.provider import get_provider_info; get_provider_info()")

    assert {name for name in imported if name.startswith(("airflow", "strongroom"))} == {
        "strongroom_airflow",
        "strongroom_airflow.provider",
    }


def test_the_parser_loads_the_definitions_of_commands_and_none_that_does_their_work():
    imported = modules_after("from airflow.cli.cli_parser import get_parser; get_parser()")

    ours = {name for name in imported if name.startswith("strongroom")}
    definitions = {name for name in ours if name.startswith("strongroom_airflow.commands.definitions")}
    assert ours - definitions == {"strongroom_airflow", "strongroom_airflow.provider", "strongroom_airflow.commands"}
    assert "strongroom_airflow.commands.definitions.backfill" in definitions


def test_the_commands_are_those_that_users_type():
    from airflow.cli.cli_config import GroupCommand

    def names(group):
        for one in group.subcommands:
            if isinstance(one, GroupCommand):
                yield from (f"{one.name} {name}" for name in names(one))
            else:
                yield one.name

    [group] = get_cli_commands()

    assert (group.name, " | ".join(names(group))) == (
        "strongroom",
        "catalog | list | plan | archive | status | throttle | pause | resume | show | verify | condemn | restore | query | purge | restores | certificates | certificate | verifications | jobs | "
        "hold add | hold list | hold release | log key | log show | log adopt | log rotate | audit | "
        "subject key | subject open | subject list | subject extend | subject report | iceberg status | iceberg reconcile | recovery-kit | recover | init | check | warm apply | bucket claim | bucket check | bucket apply | bucket lock",
    )
    assert get_provider_info()["cli"] == ["strongroom_airflow.provider.get_cli_commands"]
