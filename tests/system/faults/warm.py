"""Imported by the process from which steps are forked, so that it has everything ready that each step needs."""

from tests.system.faults.steps import warm_up

warm_up()
