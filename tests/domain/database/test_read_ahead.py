"""A batch is read while another is worked on: one, and in its order."""

from __future__ import annotations

from threading import Event

import pytest

from strongroom.database.rebuild import read_ahead

BATCHES = [[b"1"], [b"2"], [b"3"]]


def test_the_next_batch_is_read_meanwhile_and_no_further_one():
    begun, second = [], Event()

    def source():
        for number, batch in enumerate(BATCHES):
            begun.append(number)
            if number == 1:
                second.set()
            yield batch

    ahead = read_ahead(source())

    assert next(ahead) == [b"1"]
    assert second.wait(60)
    assert begun == [0, 1]
    assert list(ahead) == BATCHES[1:]


def test_what_goes_wrong_while_reading_is_raised_behind_the_batches_before_it():
    def source():
        yield from BATCHES
        raise OSError("the disk is gone")

    ahead = read_ahead(source())

    assert [next(ahead) for _ in BATCHES] == BATCHES
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
