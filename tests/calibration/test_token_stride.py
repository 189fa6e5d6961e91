"""Which tokens sums are made of."""

import pytest

from numprune_export.calibration.token_stride import bounded_stride
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit


@pytest.mark.parametrize(
    ("every", "tokens", "expected"),
    [(1, 10**6, 1), (2, 10**6, 2), (2, 1280, 2), (2, 1279, 1), (3, 1280, 2), (3, 5, 1)],
)
def test_no_token_is_left_out_where_there_are_few(every, tokens, expected):
    assert bounded_stride(every, tokens, inputs=64) == expected


def test_a_consumer_alone_is_fitted_to_the_fewer_of_two():
    both = ClosedForm(token_stride=2, producers=ProducerRefit(spared_token_stride=4))
    assert both.stride_alone("attention", 64, 10**6) == 2
    assert both.stride_alone("mlp", 64, 10**6) == 4
    assert both.stride_alone("mlp", 64, 1000) == 2
    assert ClosedForm(token_stride=2).stride_alone("mlp", 64, 10**6) == 2
