"""Work on rows that is repeated in halves when the device is full."""

import pytest
import torch

from numprune_export.core.halving import in_parts, irreversible, watched


def room_for(most, calls):
    """Work on at most so many rows, and what it was asked to do."""

    def run(rows):
        calls.append((rows.start, rows.stop))
        if rows.stop - rows.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return list(range(rows.start, rows.stop))

    return run


@pytest.mark.parametrize(("count", "most"), [(8, 8), (8, 3), (7, 1), (1, 1), (5, 2)])
def test_every_row_comes_once_and_in_order(count, most):
    parts = list(in_parts(count, room_for(most, [])))
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) <= most


def test_a_stage_remembers_what_fits():
    calls = []
    with watched() as halved:
        for _ in range(2):
            list(in_parts(8, room_for(2, calls)))
        list(in_parts(3, room_for(3, calls), "tokens"))
    assert calls[:3] == [(0, 8), (0, 4), (0, 2)]
    assert calls[6:10] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert halved == {"batch": 2}


def test_one_row_without_room_raises():
    with pytest.raises(torch.OutOfMemoryError), watched() as halved:
        list(in_parts(4, room_for(0, [])))
    assert halved == {"batch": 1}


def test_no_rows_are_one_call():
    assert list(in_parts(0, room_for(1, []))) == [[]]


def test_another_error_is_not_repeated():
    calls = []

    def run(rows):
        calls.append(rows)
        raise RuntimeError("expected all tensors on one device")

    with pytest.raises(RuntimeError, match="one device"):
        list(in_parts(4, run))
    assert len(calls) == 1


def test_a_sum_that_has_begun_is_not_repeated():
    calls = []

    def run(rows):
        with irreversible():
            return room_for(2, calls)(rows)

    with pytest.raises(torch.OutOfMemoryError):
        list(in_parts(4, run))
    assert calls == [(0, 4)]
