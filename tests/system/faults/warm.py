"""Imported by the process that steps are forked from: whatever every step needs is ready in it."""

from tests.system.faults.steps import warm_up

warm_up()
