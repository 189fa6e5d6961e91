"""The reference runner against plain forward calls of the same model: no cache, no padding."""

import numpy as np
import pytest
import torch
from tiny import MODEL_TYPES, tiny, uneven

from numprune_export.core.errors import InputError
from numprune_export.measure.reference.decoder import TorchRunner

TOKENS = np.random.default_rng(0).integers(3, 97, (3, 30))
TOLERANCE = 1e-4  # logits are about 10; fp32 sums in another order differ by 1e-5


def plain_logits(model, tokens) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(np.asarray(tokens))[None], use_cache=False).logits[0].numpy()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_position_and_step_equals_the_forward_of_the_whole_row(model_type):
    model = uneven(model_type)
    with TorchRunner(model, threads=1) as runner:
        prefill = runner.prefill(TOKENS[:, :9], all_positions=True)
        steps = [runner.decode(TOKENS[:, position]) for position in range(9, 14)]
    for row in range(3):
        expected = plain_logits(model, TOKENS[row, :14])
        np.testing.assert_allclose(prefill[row], expected[:9], atol=TOLERANCE)
        np.testing.assert_allclose([step[row] for step in steps], expected[9:], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("model_type", "overrides"),
    [
        *((architecture, {}) for architecture in MODEL_TYPES),
        ("mistral", {"sliding_window": 5}),
        (
            "qwen3",
            {
                "sliding_window": 4,
                "use_sliding_window": True,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            },
        ),
    ],
)
def test_a_padded_row_is_what_it_is_alone(model_type, overrides):
    model = tiny(model_type, **overrides)
    lengths = np.array([4, 11, 1])
    padded = np.where(np.arange(11) < lengths[:, None], TOKENS[:, :11], 96)
    with TorchRunner(model, threads=1) as runner:
        prefill = runner.prefill(padded, lengths, all_positions=True)
        last = runner.prefill(padded, lengths)
        steps = [runner.decode(TOKENS[:, 20 + step]) for step in range(7)]
    for row, length in enumerate(lengths):
        expected = plain_logits(model, [*TOKENS[row, :length], *TOKENS[row, 20:27]])
        np.testing.assert_allclose(prefill[row, :length], expected[:length], atol=TOLERANCE)
        np.testing.assert_allclose(last[row], expected[length - 1], atol=TOLERANCE)
        got = [step[row] for step in steps]
        np.testing.assert_allclose(got, expected[length:], atol=TOLERANCE)


def test_prefill_forgets_earlier_sequences():
    with TorchRunner(tiny(), threads=1) as runner:
        first = runner.prefill(TOKENS[:1, :6])
        runner.decode(TOKENS[:1, 6])
        runner.prefill(TOKENS[:, :12], np.array([3, 12, 7]))
        np.testing.assert_array_equal(runner.prefill(TOKENS[:1, :6]), first)


def test_only_the_asked_positions_reach_the_vocabulary_projection():
    model = tiny()
    seen = []
    model.lm_head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    with TorchRunner(model, threads=1) as runner:
        assert runner.prefill(TOKENS[:, :9]).shape == (3, 97)
        assert runner.prefill(TOKENS[:, :9], all_positions=True).shape == (3, 9, 97)
        assert runner.decode(TOKENS[:, 9]).shape == (3, 97)
    assert seen == [1, 9, 1]


def test_half_precision_gives_fp32_logits():
    with TorchRunner(tiny().to(torch.bfloat16), threads=1) as runner:
        assert runner.prefill(TOKENS[:, :4]).dtype == np.float32


def test_threads_are_restored():
    before = torch.get_num_threads()
    with TorchRunner(tiny(), threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("lengths", [[0, 3, 3], [3, 3], [3, 10, 3]])
def test_impossible_lengths_are_refused(lengths):
    with TorchRunner(tiny(), threads=1) as runner, pytest.raises(InputError, match="row lengths"):
        runner.prefill(TOKENS[:, :9], np.array(lengths))


def test_decode_needs_the_rows_of_a_prefill():
    with TorchRunner(tiny(), threads=1) as runner:
        with pytest.raises(InputError, match="the last prefill had `0`"):
            runner.decode(TOKENS[:, 0])
        runner.prefill(TOKENS[:2, :4])
        with pytest.raises(InputError, match="the last prefill had `2`"):
            runner.decode(TOKENS[:, 0])
