"""PyTorch's encoder runner is Hugging Face's forward, row by row, whatever the padding holds."""

import numpy as np
import pytest
import torch
from tiny_encoder import FAMILIES, TASKS, uneven_encoder

from numprune_export.core.errors import InputError
from numprune_export.measure.reference.encoder import TorchEncoderRunner

LENGTHS = np.array([5, 8, 3])


def alone(model, tokens, types):
    """One text without padding or mask, by the model itself."""
    named = {"input_ids": torch.from_numpy(tokens)[None]}
    if model.config.model_type == "bert":
        named["token_type_ids"] = torch.from_numpy(types)[None]
    with torch.no_grad():
        output = model(**named)
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1)[0].numpy()
    return output.logits[0].numpy()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_each_row_is_what_the_model_says_of_it_alone(model_type, task):
    model = uneven_encoder(model_type, task)
    random = np.random.default_rng(0)
    tokens, types = random.integers(3, 101, (3, 9)), random.integers(0, 2, (3, 9))
    types *= model_type == "bert"
    padded = np.arange(9) >= LENGTHS[:, None]
    tokens[padded], types[padded] = -100, 77
    with TorchEncoderRunner(model, FAMILIES[model_type], threads=1) as runner:
        got = runner.forward(tokens, LENGTHS, types)
        full = runner.forward(tokens[:2, :5], None, types[:2, :5])
    for row, n in enumerate(LENGTHS):
        mine = got[row] if task == "sequence" else got[row, :n]
        np.testing.assert_allclose(mine, alone(model, tokens[row, :n], types[row, :n]), atol=1e-5)
    for row in range(2):
        expected = alone(model, tokens[row, :5], types[row, :5])
        np.testing.assert_allclose(full[row], expected, atol=1e-5)


def test_threads_are_set_inside_and_restored():
    before = torch.get_num_threads()
    model = uneven_encoder()
    with TorchEncoderRunner(model, FAMILIES["bert"], threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with TorchEncoderRunner(model, FAMILIES["bert"], threads=None):
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("lengths", [[9, 10], [0, 9], [9]])
def test_wrong_lengths_are_refused(lengths):
    with (
        TorchEncoderRunner(uneven_encoder(), FAMILIES["bert"], threads=1) as runner,
        pytest.raises(InputError, match="do not fit"),
    ):
        runner.forward(np.full((2, 9), 7), np.array(lengths))
