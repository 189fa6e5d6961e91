"""Which layer is wrong, found by halving."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny

from numprune_export.measure.parity.bisect import cut, first_wrong_layer
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.families import DECODERS


@given(layers=st.integers(1, 80), data=st.data())
def test_the_first_wrong_layer_is_found_with_few_exports(layers, data):
    culprit, asked = data.draw(st.integers(0, layers - 1)), []

    def wrong(count):
        asked.append(count)
        return count > culprit

    assert first_wrong_layer(layers, wrong) == culprit
    assert len(asked) <= int(np.ceil(np.log2(layers))) + 1
    assert all(1 <= count <= layers for count in asked)


def test_a_model_that_is_right_when_made_again_has_no_wrong_layer():
    assert first_wrong_layer(7, lambda count: False) is None


@pytest.mark.parametrize("model_type", sorted(DECODERS))
def test_a_cut_model_runs_with_its_first_layers_and_is_whole_again(model_type):
    model, family = tiny(model_type), DECODERS[model_type]
    tokens = np.random.default_rng(0).integers(3, 97, (2, 9))

    def logits():
        with TorchRunner(model, threads=None) as runner:
            return np.stack([runner.prefill(tokens), runner.decode(tokens[:, 0])])

    before, names = logits(), [name for name, _ in model.named_parameters()]
    with cut(model, family, 2):
        assert len(family.decoder(model).layers) == 2
        assert np.abs(logits() - before).max() > 1e-3
    assert [name for name, _ in model.named_parameters()] == names
    np.testing.assert_array_equal(logits(), before)
