"""The compiled runner against plain forward calls, and that it is compiled, once."""

import shutil

import numpy as np
import pytest
import torch
from tiny import MODEL_TYPES, tiny, uneven
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.utils import counters

from numprune_export.core.errors import InputError
from numprune_export.measure.reference.compiled import CompiledTorchRunner
from numprune_export.measure.reference.decoder import TorchRunner

TOKENS = np.random.default_rng(0).integers(3, 97, (3, 30))
LENGTHS = np.array([4, 9, 1])
TOLERANCE = 1e-4
WINDOWS = {
    "sliding_window": 4,
    "use_sliding_window": True,
    "layer_types": ["full_attention", "sliding_attention"],
}
CASES = [("llama", {}), ("mistral", {"sliding_window": 5}), ("qwen2", {}), ("qwen3", WINDOWS)]
TWO = {"num_hidden_layers": 2}
"""Two layers: each is traced, and takes a second."""


def opened(model, **overrides):
    # `eager` traces as inductor does and runs the graph as it is: all but the generated kernels
    return CompiledTorchRunner(
        model, **({"capacity": 24, "backend": "eager", "threads": 1} | overrides)
    )


def check_agreement(model, lengths):
    with TorchRunner(model, threads=1) as reference, opened(model) as compiled:
        expected = reference.prefill(TOKENS[:, :9], lengths)
        np.testing.assert_allclose(
            compiled.prefill(TOKENS[:, :9], lengths), expected, atol=TOLERANCE
        )
        for step in range(9, 16):
            expected = reference.decode(TOKENS[:, step])
            got = compiled.decode(TOKENS[:, step])
            np.testing.assert_allclose(got, expected, atol=TOLERANCE)


def test_every_family_is_a_case():
    assert [model_type for model_type, _ in CASES] == MODEL_TYPES


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "overrides"), CASES)
def test_padded_rows_are_what_the_reference_says(model_type, overrides):
    # Widths that differ, and layers with windows beside others without, need two.
    layers = TWO if model_type in ("llama", "qwen3") else {"num_hidden_layers": 1}
    check_agreement(uneven(model_type, **layers, **overrides), LENGTHS)


def test_full_rows_are_what_the_reference_says():
    check_agreement(uneven(**TWO), None)


def test_all_positions_are_at_their_right_padded_places():
    model = uneven()
    with TorchRunner(model, threads=1) as reference, opened(model) as compiled:
        expected, got = (
            runner.prefill(TOKENS[:, :9], LENGTHS, all_positions=True)
            for runner in (reference, compiled)
        )
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(got[row, :length], expected[row, :length], atol=TOLERANCE)


def test_prefill_forgets_earlier_sequences():
    with opened(tiny(num_hidden_layers=1)) as runner:
        first = runner.prefill(TOKENS[:1, :6])
        following = runner.decode(TOKENS[:1, 6])
        runner.prefill(TOKENS[:1, :12], all_positions=True)
        np.testing.assert_array_equal(runner.prefill(TOKENS[:1, :6]), first)
        np.testing.assert_array_equal(runner.decode(TOKENS[:1, 6]), following)


def test_a_step_is_one_graph_that_is_compiled_once():
    counters.clear()
    with opened(tiny(num_hidden_layers=1)) as runner:
        runner.prefill(TOKENS[:, :9])
        for step in range(9, 20):
            runner.decode(TOKENS[:, step])
    assert counters["stats"]["unique_graphs"] == 2  # the prompt's and the step's
    assert not counters["graph_break"]


def test_other_runners_do_not_use_up_the_recompilations():
    counters.clear()
    model = tiny(num_hidden_layers=1)
    with torch._dynamo.config.patch(recompile_limit=1):
        for capacity in (10, 11, 12):
            with opened(model, capacity=capacity) as runner:
                runner.prefill(TOKENS[:, :9])
    assert counters["stats"]["unique_graphs"] == 3


def test_a_step_that_cannot_stay_compiled_is_an_error_and_not_slow():
    with torch._dynamo.config.patch(recompile_limit=1), opened(tiny(num_hidden_layers=1)) as runner:
        runner.prefill(TOKENS[:, :9])
        runner.decode(TOKENS[:, 9])
        runner.prefill(TOKENS[:, :9], LENGTHS, all_positions=True)
        with pytest.raises(FailOnRecompileLimitHit):
            runner.decode(TOKENS[:, 9])


def test_the_cache_stays_where_it_is_for_the_same_number_of_rows():
    with opened(uneven(**TWO)) as runner:
        runner.prefill(TOKENS[:, :9])
        first = [layer.keys.data_ptr() for layer in runner._cache.layers]
        heads = [layer.keys.shape[1] for layer in runner._cache.layers]
        runner.prefill(TOKENS[:, :5])
        assert [layer.keys.data_ptr() for layer in runner._cache.layers] == first
    assert heads == [3, 1]


def test_what_does_not_fit_is_refused():
    with opened(tiny(num_hidden_layers=1), capacity=10) as runner:
        with pytest.raises(InputError, match="`11` tokens does not fit the cache of 10"):
            runner.prefill(TOKENS[:, :11])
        with pytest.raises(InputError, match="the last prefill had `0`"):
            runner.decode(TOKENS[:, 0])
        runner.prefill(TOKENS[:, :9])
        with pytest.raises(InputError, match="the last prefill had `3`"):
            runner.decode(TOKENS[:2, 0])
        runner.decode(TOKENS[:, 9])
        with pytest.raises(InputError, match="`11` tokens"):
            runner.decode(TOKENS[:, 10])


def test_threads_are_restored():
    before = torch.get_num_threads()
    with opened(tiny(), threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own, in torch 2.13
def test_inductors_own_kernels_agree():
    model = tiny(num_hidden_layers=1)
    with TorchRunner(model, threads=1) as reference, opened(model, backend="inductor") as compiled:
        for runner in (reference, compiled):
            runner.prefill(TOKENS[:, :9], all_positions=True)
        for step in range(9, 12):
            expected = reference.decode(TOKENS[:, step])
            np.testing.assert_allclose(compiled.decode(TOKENS[:, step]), expected, atol=TOLERANCE)
