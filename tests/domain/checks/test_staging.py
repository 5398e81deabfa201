"""Staging is tried with a real file, and what the one line for Nagios says."""

from __future__ import annotations

import pytest

from strongroom.checks.nagios import nagios_line
from strongroom.checks.result import Checklist, CheckResult
from strongroom.checks.staging import check_folder, filesystem_of
from tests.support.chain import some_settings
from tests.support.checking import faults, warnings


def check(*tables, elsewhere=None):
    checks = Checklist("staging")
    check_folder(checks, tables, elsewhere=elsewhere)
    return checks.results


def test_a_folder_that_can_be_used_passes_and_is_left_empty(tmp_path):
    results = check(some_settings("unused", tmp_path / "staging", part_bytes=1000))

    assert (faults(results), warnings(results), len(results)) == ([], [], 3)
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "staging").write_text("a file in the way")

    [fault] = faults(check(some_settings("unused", tmp_path / "staging")))

    assert "files can be written, synced, read and removed in `staging`" in fault
    assert str(tmp_path / "staging") in fault


def test_a_disk_that_may_be_too_small_is_a_warning(tmp_path):
    [line] = warnings(check(some_settings("unused", tmp_path, part_bytes=1 << 50)))

    assert "4,194,304.0 GiB needed" in line


def test_a_folder_of_one_machine_is_a_warning_where_tasks_run_on_others(tmp_path):
    on_disk = some_settings("unused", tmp_path, part_bytes=1000)
    on_s3 = some_settings("unused", "s3://bucket/staging", scratch=str(tmp_path), part_bytes=1000)

    [line] = warnings(check(on_disk, elsewhere="CeleryExecutor"))

    assert "CeleryExecutor may run tasks on other machines" in line
    assert warnings(check(on_s3, elsewhere="CeleryExecutor")) == []


def test_the_file_system_of_a_folder_is_the_one_mounted_nearest_above_it(tmp_path):
    mounts = tmp_path / "mountinfo"
    near = tmp_path / "with space"
    mounts.write_text(
        "1 0 0:1 / / rw - ext4 /dev/a rw\n"
        f"2 1 0:2 / {tmp_path!s} rw shared:1 - xfs /dev/b rw\n"
        f"3 1 0:3 / {str(near).replace(' ', chr(92) + '040')} rw - nfs4 host:/export rw\n"
        "a line of another kind\n"
    )

    assert [filesystem_of(folder, mounts) for folder in (near / "x", tmp_path, tmp_path.parent)] == [
        "nfs4",
        "xfs",
        "ext4",
    ]
    assert filesystem_of(tmp_path, tmp_path / "none") is None


def result(verdict: str, found: str = "") -> CheckResult:
    return CheckResult(area="store", what="it answers", verdict=verdict, found=found)


@pytest.mark.parametrize(
    ("results", "line", "status"),
    [
        ([], "STRONGROOM UNKNOWN - nothing was checked |checks=0 failed=0;;0 warnings=0;0", 3),
        ([result("ok")], "STRONGROOM OK - 1 checks |checks=1 failed=0;;0 warnings=0;0", 0),
        (
            [result("warning", "late")],
            "STRONGROOM WARNING - 1 of 1 checks: store: it answers: late |checks=1 failed=0;;0 warnings=1;0",
            1,
        ),
        (
            [result("ok"), result("warning", "late"), result("failed", "a|b")],
            "STRONGROOM CRITICAL - 1 of 3 checks failed: store: it answers: a/b; store: it answers: late |checks=3 failed=1;;0 warnings=1;0",
            2,
        ),
    ],
)
def test_the_line_for_nagios_names_faults_first_and_ends_with_figures(results, line, status):
    assert nagios_line(results) == (line, status)


def test_the_line_for_nagios_stays_one_line_however_much_is_wrong():
    line, status = nagios_line([result("failed", "x" * 1000)] * 20)

    assert (status, "\n" in line, len(line) < 600) == (2, False, True)
