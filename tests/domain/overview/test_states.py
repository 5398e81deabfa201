"""The names, signs and order of the states."""

from __future__ import annotations

from strongroom.overview.states import State, worst_first


def test_each_state_has_words_a_meaning_and_a_sign_of_its_own():
    """Colour is never the only sign. Of the last two there is nothing to see but their colour."""
    signs = [state.sign for state in State if state not in (State.EMPTY, State.BEFORE)]

    assert len(set(signs)) == len(signs) == len(State) - 2
    assert all(len(state.sign) == 1 for state in State)
    assert len({state.words for state in State}) == len(State)
    assert all(state.meaning.endswith(".") for state in State)


def test_the_worst_comes_first():
    found = worst_first({State.ARCHIVED, State.HELD, State.UNVERIFIABLE, State.RUNNING})

    assert found == (State.UNVERIFIABLE, State.RUNNING, State.HELD, State.ARCHIVED)


def test_states_that_ask_for_somebody_are_graver_than_all_others():
    """What the headline counts stands before all others in a cell, the legend and the page of a partition."""
    counted = {State.UNVERIFIABLE, State.FAILED, State.OVERDUE, State.LEFT}

    assert max(state.gravity for state in counted) < min(state.gravity for state in set(State) - counted)
