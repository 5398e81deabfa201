"""deploy/find-chromium in a folder of its own, with a PATH that the test has made."""

from __future__ import annotations

import shutil

import pytest

from tests.support.machines import Machine

STARTS, DOES_NOT = "#!/bin/sh\necho Chromium 1.0\n", "#!/bin/sh\necho it needs a library >&2\nexit 127\n"


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path, "find-chromium")


def test_the_browser_on_the_path_is_found_and_a_named_one_wins(machine):
    ours = machine.program("google-chrome", STARTS)
    other = machine.program("another", STARTS)

    assert machine.find().stdout.strip() == str(ours)
    assert machine.find(CHROMIUM=str(other)).stdout.strip() == str(other)


def test_a_browser_that_does_not_start_is_none(machine):
    """A stub of another package manager, or one whose libraries are missing."""
    machine.program("chromium", DOES_NOT)
    works = machine.program("chromium-browser", STARTS)

    assert machine.find().stdout.strip() == str(works)


def test_a_named_browser_that_does_not_start_is_an_error_even_if_there_is_another(machine):
    machine.program("chromium", STARTS)
    broken = machine.program("broken", DOES_NOT)

    found = machine.find(CHROMIUM=str(broken))

    assert (found.returncode, found.stdout) == (1, "")
    assert f"CHROMIUM={broken} is no browser that starts\nhint: nothing was started" in found.stderr


def test_without_a_browser_it_fails_and_says_what_to_do(machine):
    """Also when nothing can be installed."""
    for words in ((), ("--install",)):
        found = machine.find(*words)

        assert (found.returncode, found.stdout) == (1, "")
        assert "error: this machine has no Chromium" in found.stderr
        assert "hint: nothing was started; install the package chromium" in found.stderr


def test_as_root_on_debian_the_systems_package_is_installed(machine):
    """Only with --install, and its output does not mix with the path."""
    machine.program("id", "#!/bin/sh\necho 0\n")
    chromium = machine.programs / "chromium"
    machine.program(
        "apt-get",
        f'#!/bin/sh\necho "apt-get $*"\n[ "$1" = update ] || {{ printf \'{STARTS.encode("unicode_escape").decode()}\''
        f" > {chromium}; {shutil.which('chmod')} +x {chromium}; }}\n",
    )

    assert machine.find().returncode == 1
    found = machine.find("--install")

    assert (found.returncode, found.stdout.strip()) == (0, str(chromium))
    assert found.stderr.splitlines() == [
        "apt-get update -qq",
        "apt-get install -y -qq --no-install-recommends chromium",
    ]


def test_elsewhere_playwrights_own_is_downloaded_into_the_project(machine):
    venv = machine.project / ".venv" / "bin"
    venv.mkdir(parents=True)
    browser = machine.project / ".strongroom" / "browsers" / "chrome"
    scripts = {
        "python": f'#!/bin/sh\necho "${{PLAYWRIGHT_BROWSERS_PATH:-{machine.project}/none}}/chrome"\n',
        "playwright": '#!/bin/sh\necho "playwright $*"\nmkdir -p "$PLAYWRIGHT_BROWSERS_PATH"\n'
        'cp "$STARTS" "$PLAYWRIGHT_BROWSERS_PATH/chrome"\n',
    }
    for name, text in scripts.items():
        (venv / name).write_text(text)
        (venv / name).chmod(0o755)
    machine.link("mkdir", "cp")
    machine.program("id", "#!/bin/sh\necho 1000\n")
    starts = machine.program("starts", STARTS)

    found = machine.find("--install", STARTS=str(starts))

    assert (found.returncode, found.stdout.strip()) == (0, str(browser))
    assert found.stderr.splitlines() == ["playwright install --no-shell chromium"]
    assert machine.find().stdout.strip() == str(browser)
