"""Perplexity against its definition: exp of torch's mean cross entropy over predicted tokens."""

import math

import numpy as np
import pytest
import torch
from tiny import tiny

from numprune_export.core.errors import InputError, NumericalError
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.measure.reference.decoder import TorchRunner

WINDOWS = np.random.default_rng(1).integers(3, 97, (5, 80))


def window_nats(model, window) -> float:
    ids = torch.from_numpy(window)
    with torch.no_grad():
        logits = model(ids[None], use_cache=False).logits[0].double()
    return float(torch.nn.functional.cross_entropy(logits[:-1], ids[1:]))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_perplexity_is_exp_of_the_mean_cross_entropy(batch):
    model = tiny()
    nats = [window_nats(model, window) for window in WINDOWS]
    with TorchRunner(model, threads=1) as runner:
        got = perplexity(runner, WINDOWS, batch=batch, conditions={"dtype": "float32"})
    assert got.value == pytest.approx(math.exp(np.mean(nats)), rel=1e-5)
    assert got.samples == 5 * 79
    error = np.std(nats, ddof=1) / math.sqrt(5)
    assert got.low == pytest.approx(math.exp(np.mean(nats) - 1.96 * error), rel=1e-4)
    assert got.high == pytest.approx(math.exp(np.mean(nats) + 1.96 * error), rel=1e-4)
    assert got.conditions == {
        "windows": 5,
        "tokens_per_window": 80,
        "batch": batch,
        "dtype": "float32",
    }


def test_a_model_that_knows_nothing_scores_the_vocabulary_size():
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with TorchRunner(model, threads=1) as runner:
        assert perplexity(runner, WINDOWS, batch=2).value == pytest.approx(97, rel=1e-12)


def test_one_window_has_no_interval():
    with TorchRunner(tiny(), threads=1) as runner:
        got = perplexity(runner, WINDOWS[:1], batch=4)
    assert (got.low, got.high) == (None, None)


def test_progress_counts_windows():
    done = []
    with TorchRunner(tiny(), threads=1) as runner:
        perplexity(runner, WINDOWS, batch=2, progress=done.append)
    assert done == [2, 2, 1]


def test_hopeless_logits_give_infinity_and_not_a_crash():
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    with TorchRunner(model, threads=1) as runner:
        assert perplexity(runner, WINDOWS, batch=5).value == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_numbers_are_an_error(bad):
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight[50] = bad
    with (
        TorchRunner(model, threads=1) as runner,
        pytest.raises(NumericalError, match="text window `0`"),
    ):
        perplexity(runner, WINDOWS, batch=2)


@pytest.mark.parametrize("shape", [(0, 8), (3, 1), (8,)])
def test_nothing_to_score_is_an_input_error(shape):
    with TorchRunner(tiny(), threads=1) as runner, pytest.raises(InputError, match="no token"):
        perplexity(runner, np.zeros(shape, np.int64), batch=2)
