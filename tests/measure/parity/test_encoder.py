"""Encoder parity must see every way in which an export goes wrong; each is done here on purpose."""

import numpy as np
import pytest
import torch
from tiny_encoder import FAMILIES, TASKS, uneven_encoder

from numprune_export.core.errors import InputError, ParityError
from numprune_export.measure.parity.decoder import check
from numprune_export.measure.parity.encoder import compare
from numprune_export.measure.reference.encoder import TorchEncoderRunner

RANDOM = np.random.default_rng(2)
TOKENS = RANDOM.integers(3, 101, (3, 12))
TYPES = RANDOM.integers(0, 2, (3, 12))


@pytest.fixture(autouse=True)
def _one_thread():
    """Many threads only wait for each other on models this small."""
    torch.set_num_threads(1)


class Broken:
    """A right runner that is wrong in one place."""

    def __init__(self, model):
        self.inner = TorchEncoderRunner(model, FAMILIES[model.config.model_type], threads=1)

    def forward(self, tokens, lengths=None, types=None):
        return self.inner.forward(tokens, lengths, types)


class SeesPadding(Broken):
    def forward(self, tokens, lengths=None, types=None):
        return super().forward(tokens, None, types)


class TakesTheFirstLengthForAll(Broken):
    def forward(self, tokens, lengths=None, types=None):
        lengths = None if lengths is None else np.full_like(lengths, lengths[0])
        return super().forward(tokens, lengths, types)


class SwapsRows(Broken):
    def forward(self, tokens, lengths=None, types=None):
        return super().forward(tokens, lengths, types)[::-1]


class ForgetsTypes(Broken):
    def forward(self, tokens, lengths=None, types=None):
        return super().forward(tokens, lengths, None)


class WrongForOneToken(Broken):
    def forward(self, tokens, lengths=None, types=None):
        return super().forward(tokens, lengths, types) + (tokens.shape[1] == 1)


class NotANumber(Broken):
    """In the last real token of the last row of the padded batch."""

    def forward(self, tokens, lengths=None, types=None):
        logits = super().forward(tokens, lengths, types)
        if lengths is not None:
            last = (-1,) if logits.ndim == 2 else (-1, lengths[-1] - 1)
            logits[(*last, 0)] = np.nan
        return logits


class GarbageInPadding(Broken):
    def forward(self, tokens, lengths=None, types=None):
        logits = super().forward(tokens, lengths, types)
        if lengths is not None and logits.ndim == 3:
            logits[np.arange(tokens.shape[1]) >= lengths[:, None]] = np.nan
        return logits


class WrongWhenLong(Broken):
    def forward(self, tokens, lengths=None, types=None):
        return super().forward(tokens, lengths, types) + (tokens.shape[1] > 40)


def parity_with(kind, task="token", shapes=(), **overrides):
    model = uneven_encoder("bert", task, **overrides)
    return compare(Broken(model), kind(model), TOKENS, task, types=TYPES, shapes=shapes)


# batches: 1 x 12, 3 x 11, 3 rows of 6, 11 and 4, 1 x 1
ANSWERS = {"sequence": 1 + 3 + 3 + 1, "token": 12 + 33 + 21 + 1, "span": 2 * (1 + 3 + 3 + 1)}


@pytest.mark.parametrize("kind", [Broken, GarbageInPadding])
@pytest.mark.parametrize("task", TASKS)
def test_a_model_agrees_with_itself_whatever_stands_in_its_padding(task, kind):
    parity = parity_with(kind, task)
    assert (parity.max_abs_error, parity.mean_abs_error) == (0, 0)
    assert (parity.kl_mean, parity.top1_agreement, parity.finite) == (0, 1, True)
    assert parity.answers == ANSWERS[task]
    check(parity, 1e-9, name="onnx")


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        (SeesPadding, "padded batch 3"),
        (TakesTheFirstLengthForAll, "padded batch 3"),
        (SwapsRows, "batch 3"),
        (ForgetsTypes, ""),
        (WrongForOneToken, "one token"),
    ],
)
@pytest.mark.parametrize("task", TASKS)
def test_what_is_broken_is_found(task, broken, where):
    parity = parity_with(broken, task)
    assert parity.max_abs_error > 1e-2
    assert where in parity.worst
    with pytest.raises(ParityError, match="`onnx` disagrees with PyTorch: max abs error"):
        check(parity, 1e-3, name="onnx")


@pytest.mark.parametrize("task", TASKS)
def test_one_nan_is_enough(task):
    parity = parity_with(NotANumber, task)
    assert (parity.max_abs_error, parity.finite) == (np.inf, False)
    assert parity.worst.startswith("padded batch 3")
    with pytest.raises(ParityError, match="NaN or infinity at padded batch 3"):
        check(parity, 1e9, name="onnx")


def test_a_span_is_judged_by_its_tokens_and_a_class_by_its_rank():
    class Shifted(Broken):
        """Moves every start one token on."""

        def forward(self, tokens, lengths=None, types=None):
            logits = super().forward(tokens, lengths, types)
            logits[..., 0] = np.roll(logits[..., 0], 1, axis=1)
            return logits

    assert 0 < parity_with(Shifted, "span").top1_agreement < 1

    class OffByAConstant(Broken):
        """Which changes no distribution."""

        def forward(self, tokens, lengths=None, types=None):
            return super().forward(tokens, lengths, types) + np.float32(0.5)

    for task in TASKS:
        parity = parity_with(OffByAConstant, task)
        assert parity.max_abs_error == pytest.approx(0.5, abs=1e-5)
        assert parity.mean_abs_error == pytest.approx(0.5, abs=1e-5)
        assert parity.kl_mean == pytest.approx(0, abs=1e-9)
        assert parity.top1_agreement == 1


def test_a_regression_has_errors_and_no_distribution():
    parity = parity_with(SwapsRows, "sequence", num_labels=1)
    assert parity.max_abs_error > 1e-3
    assert (parity.kl_mean, parity.top1_agreement) == (None, None)
    assert set(parity.metrics("parity.onnx")) == {
        "parity.onnx.max_abs_error",
        "parity.onnx.mean_abs_error",
    }


def test_metrics_carry_unit_and_count():
    metrics = parity_with(Broken).metrics("parity.onnx", {"dtype": "float32"})
    assert {name.rpartition(".")[2]: metric.unit for name, metric in metrics.items()} == {
        "max_abs_error": "logit",
        "mean_abs_error": "logit",
        "kl_mean": "nats",
        "top1_agreement": "fraction",
    }
    assert all(metric.samples == ANSWERS["token"] for metric in metrics.values())
    assert all(metric.conditions["dtype"] == "float32" for metric in metrics.values())


def test_further_shapes_are_compared_too_beyond_the_length_of_the_text():
    assert parity_with(WrongWhenLong).max_abs_error == 0
    parity = parity_with(WrongWhenLong, shapes=[(2, 40), (2, 50)])
    assert parity.max_abs_error == pytest.approx(1)
    assert parity.worst.startswith("2 x 50, row 0")


@pytest.mark.parametrize("shape", [(2, 20), (3, 3), (20,)])
def test_too_little_text_is_refused(shape):
    runner = Broken(uneven_encoder())
    with pytest.raises(InputError, match="parity tokens"):
        compare(runner, runner, np.ones(shape, np.int64), "token")
