"""deploy/find-promtool in a folder of its own, with a PATH that the test has made."""

from __future__ import annotations

import shutil

import pytest

from tests.support.machines import Machine

STARTS, DOES_NOT = "#!/bin/sh\necho promtool 1.0\n", "#!/bin/sh\nexit 127\n"


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path, "find-promtool")


def test_it_is_found_on_the_path_if_prometheus_lies_beside_it(machine):
    promtool = machine.program("promtool", STARTS)
    alone = machine.find()
    machine.program("prometheus", STARTS)

    assert (alone.returncode, alone.stdout) == (1, "")
    assert machine.find().stdout.strip() == str(promtool)


def test_a_named_one_that_does_not_start_is_an_error_even_if_there_is_another(machine):
    machine.program("promtool", STARTS)
    machine.program("prometheus", STARTS)
    broken = machine.program("broken", DOES_NOT)

    found = machine.find(PROMTOOL=str(broken))

    assert (found.returncode, found.stdout) == (1, "")
    assert f"error: PROMTOOL={broken} does not start" in found.stderr


def test_without_one_it_fails_and_says_what_to_do(machine):
    """Also when nothing can be installed, and when the package index fails."""
    machine.link("mkdir", "mktemp", "rm")
    failing = {"apt-get": "#!/bin/sh\nexit 100\n", "dpkg-deb": "#!/bin/sh\nexit 0\n"}
    for words in ((), ("--install",)):
        for name, text in failing.items():
            found = machine.find(*words)

            assert (found.returncode, found.stdout) == (1, "")
            assert "error: this machine has no promtool" in found.stderr
            assert "hint: nothing was started; install the package prometheus" in found.stderr
            machine.program(name, text)


UNPACKED = (
    "#!/bin/sh\nmkdir -p usr/bin usr/share/prometheus/web/static/rickshaw\nfor name in promtool prometheus; do\n"
    f"printf '{STARTS.encode('unicode_escape').decode()}' > usr/bin/$name; {shutil.which('chmod')} +x usr/bin/$name; done\n"
)


def test_debians_package_is_unpacked_into_the_project_and_not_installed(machine):
    """Installed, it would start a server."""
    machine.link("mkdir", "mktemp", "rm", "mv", "touch", "chmod")
    machine.program("id", "#!/bin/sh\necho 0\n")
    machine.program("apt-get", '#!/bin/sh\necho "apt-get $*"\n[ "$1" = update ] || touch prometheus_1_amd64.deb\n')
    machine.program("dpkg-deb", UNPACKED)

    assert machine.find().returncode == 1
    found = machine.find("--install")

    own = machine.project / ".strongroom" / "prometheus"
    assert (found.returncode, found.stdout.strip()) == (0, str(own / "usr" / "bin" / "promtool"))
    assert found.stderr.splitlines() == [
        "apt-get update -qq",
        "apt-get download -qq -o APT::Sandbox::User=root prometheus",
    ]
    assert [path.name for path in own.parent.iterdir()] == ["prometheus"]


def test_for_pictures_it_is_debians_with_the_scripts_of_its_pages(machine):
    """Another one on the PATH has pages of its own, at other addresses."""
    machine.link("mkdir", "mktemp", "rm", "mv", "touch", "chmod", "sed")
    for name in ("promtool", "prometheus"):
        machine.program(name, STARTS)
    nothing = machine.find("--pages")
    machine.program("id", "#!/bin/sh\necho 1\n")
    machine.program("apt-cache", "#!/bin/sh\necho '  Depends: adduser'\necho '  Depends: libjs-rickshaw'\n")
    machine.program("apt-get", '#!/bin/sh\necho "apt-get $*"\ntouch prometheus_1_amd64.deb libjs-d3_1_all.deb\n')
    machine.program("dpkg-deb", UNPACKED)

    found = machine.find("--pages")
    again = machine.find("--pages")

    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "error: this machine has no Prometheus whose pages can be shown" in nothing.stderr
    own = machine.project / ".strongroom" / "prometheus"
    assert found.stdout.strip() == again.stdout.strip() == str(own / "usr" / "bin" / "promtool")
    assert found.stderr.splitlines() == ["apt-get download -qq prometheus libjs-d3 libjs-rickshaw"]
    assert again.stderr == ""
