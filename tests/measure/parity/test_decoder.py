"""Parity must see every way in which an export goes wrong; each is done here on purpose."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import tiny, uneven

from numprune_export.core.errors import InputError, ParityError
from numprune_export.measure.parity.decoder import Shape, check, compare, greedy, prompts
from numprune_export.measure.parity.streamed import compare_streamed
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.families import FAMILIES

STEPS = 8
TOKENS = np.random.default_rng(2).integers(3, 97, (3, 12 + STEPS))


class Broken:
    """A right runner that is wrong in one place."""

    def __init__(self, model):
        self.inner = TorchRunner(model, threads=1)

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *exc):
        self.inner.__exit__(*exc)

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        return self.inner.prefill(tokens, lengths, all_positions=all_positions)

    def decode(self, tokens):
        return self.inner.decode(tokens)


class ForgetsRotationOffset(Broken):
    """Rotates the first decoded token as if it stood one further."""

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        logits = super().prefill(tokens, lengths, all_positions=all_positions)
        self.inner._next_positions = self.inner._next_positions + 1
        return logits


class IgnoresLengths(Broken):
    """Lets rows see their padding."""

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        return super().prefill(tokens, None, all_positions=all_positions)


class LastPositionOfTheFirstRow(Broken):
    """Wrong only where logits are asked for one position per row."""

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        logits = super().prefill(tokens, lengths, all_positions=True)
        ends = np.full(len(tokens), tokens.shape[1]) if lengths is None else lengths
        return logits if all_positions else logits[np.arange(len(tokens)), ends[0] - 1]


class SwapsRows(Broken):
    """Answers a batch in reverse order."""

    def decode(self, tokens):
        return super().decode(tokens)[::-1]


class NotANumber(Broken):
    """One NaN, in the last row of the third decode step."""

    step = 0

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        self.step = 0
        return super().prefill(tokens, lengths, all_positions=all_positions)

    def decode(self, tokens):
        logits = super().decode(tokens)
        self.step += 1
        if self.step == 3:
            logits[-1, 5] = np.nan
        return logits


def parity_with(candidate_class, model_type="llama"):
    with (
        TorchRunner(uneven(model_type), threads=1) as reference,
        candidate_class(uneven(model_type)) as candidate,
    ):
        return compare(reference, candidate, TOKENS, steps=STEPS)


def test_a_model_agrees_with_itself():
    parity = parity_with(Broken)
    assert (parity.max_abs_error, parity.kl_mean) == (0, 0)
    assert (parity.top1_agreement, parity.greedy_match, parity.finite) == (1, 1, True)
    # positions: prompts of 12, 3x11, 6+12+4 and 1; then STEPS + 1 more comparisons of 8 rows
    assert parity.positions == 12 + 33 + 22 + 1 + 8 * (STEPS + 1)
    assert parity.greedy_tokens == 8 * STEPS
    check(parity, 1e-9, name="onnx")


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        (ForgetsRotationOffset, "decode step"),
        (IgnoresLengths, "padded batch 3"),
        (LastPositionOfTheFirstRow, "padded batch 3, prefill of the last position alone"),
        (SwapsRows, "batch 3, decode step"),
    ],
)
def test_a_wrong_runner_is_caught_and_located(broken, where):
    parity = parity_with(broken)
    assert parity.kl_mean > 1e-4
    with pytest.raises(ParityError, match=where) as caught:
        check(parity, 1e-2, name="onnx")
    assert "`onnx` disagrees with PyTorch: max abs error" in str(caught.value)


def test_nan_fails_whatever_the_tolerance():
    parity = parity_with(NotANumber)
    assert not parity.finite
    assert parity.max_abs_error == np.inf
    with pytest.raises(ParityError, match="NaN or infinity at batch 1, decode step 3, row 0"):
        check(parity, np.inf, name="onnx")


def test_a_parity_that_is_not_a_number_never_passes():
    parity = dataclasses.replace(parity_with(Broken), max_abs_error=float("nan"))
    with pytest.raises(ParityError):
        check(parity, 1e9, name="onnx")


def test_numbers_are_those_of_the_definition():
    """A known change of the weights, against full forward passes of both models."""
    original, other = tiny(), tiny()
    with torch.no_grad():
        other.lm_head.weight.add_(0.01 * torch.randn_like(other.lm_head.weight))
    with TorchRunner(original, threads=1) as a, TorchRunner(other, threads=1) as b:
        parity = compare(a, b, TOKENS, steps=STEPS)
        # every compared position, as (row, how many of its tokens are seen)
        rows = [(0, n) for n in range(1, 13 + STEPS)]  # batch 1
        rows += [(row, n) for row in range(3) for n in range(1, 12 + STEPS)]  # batch 3
        rows += [(row, n) for row, end in enumerate((6, 12, 4)) for n in range(1, end + STEPS + 1)]
        rows += [(0, n) for n in range(1, 2 + STEPS)]  # one token
        rows += [(0, 12), (0, 11), (1, 11), (2, 11), (0, 6), (1, 12), (2, 4), (0, 1)]  # last alone
        error, nats, agree = [], [], []
        with torch.no_grad():
            full = [m(torch.from_numpy(TOKENS), use_cache=False).logits for m in (original, other)]
        for row, n in rows:
            p, q = (logits[row, n - 1].double() for logits in full)
            error.append(float((p - q).abs().max()))
            nats.append(float(torch.sum(p.softmax(0) * (p.log_softmax(0) - q.log_softmax(0)))))
            agree.append(bool(p.argmax() == q.argmax()))
    assert parity.positions == len(rows)
    assert parity.max_abs_error == pytest.approx(max(error), abs=1e-5)
    assert parity.kl_mean == pytest.approx(np.mean(nats), rel=1e-3)
    assert parity.top1_agreement == pytest.approx(np.mean(agree))


def test_greedy_match_counts_up_to_the_first_difference():
    """A candidate that differs in its fourth decoded token agrees on four of eight tokens."""

    class Turns(NotANumber):
        def decode(self, tokens):
            logits = Broken.decode(self, tokens)
            self.step += 1
            if self.step == 4:
                logits[np.arange(len(tokens)), logits.argmax(axis=1)] = -1e3
            return logits

    assert parity_with(Turns).greedy_match == 0.5


def test_greedy_equals_generate():
    model = tiny()
    with TorchRunner(model, threads=1) as runner:
        _, got = greedy(runner, TOKENS[:1, :6], None, STEPS)
    ids = torch.from_numpy(TOKENS[:1, :6])
    expected = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=STEPS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    np.testing.assert_array_equal(got, expected[:, 6:])


def test_prompt_shapes_cover_padding_batches_and_a_single_token():
    by_name = {prompt.name: prompt for prompt in prompts(TOKENS, STEPS)}
    assert [prompt.tokens.shape for prompt in by_name.values()] == [
        (1, 12),
        (3, 11),
        (3, 12),
        (1, 1),
    ]
    padded = by_name["padded batch 3"]
    assert padded.lengths.tolist() == [6, 12, 4]
    for row, end in enumerate(padded.lengths):
        np.testing.assert_array_equal(padded.continuation[row], TOKENS[row, end : end + STEPS])
        assert (padded.tokens[row, end:] == 0).all()


def test_metrics_carry_the_callers_prefix():
    metrics = parity_with(Broken).metrics("parity.onnx", {"dtype": "float32"})
    assert set(metrics) == {
        f"parity.onnx.{name}"
        for name in ("max_abs_error", "kl_mean", "top1_agreement", "greedy_match")
    }
    assert all(metric.conditions["dtype"] == "float32" for metric in metrics.values())
    assert metrics["parity.onnx.greedy_match"].samples == 8 * STEPS


@pytest.mark.parametrize("shape", [(2, 20), (3, 11), (20,)])
def test_too_little_text_is_refused(shape):
    with pytest.raises(InputError, match="parity tokens"):
        next(prompts(np.ones(shape, np.int64), STEPS))


class WrongWhenLong(Broken):
    """Right up to a length that no ordinary prompt has."""

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        logits = super().prefill(tokens, lengths, all_positions=all_positions)
        return logits + (tokens.shape[1] > 40)


def test_compiled_shapes_are_compared_too_beyond_the_length_of_the_text():
    model = uneven()
    shapes = [Shape("profile min", 1, 1), Shape("profile max", 4, 50)]
    with TorchRunner(model, threads=1) as reference, WrongWhenLong(model) as candidate:
        plain = compare(reference, candidate, TOKENS, steps=STEPS)
        shaped = compare(reference, candidate, TOKENS, steps=STEPS, shapes=shapes)
    assert plain.max_abs_error < 1e-4
    assert shaped.max_abs_error == pytest.approx(1)
    assert shaped.worst == "profile max, 4 x 50, prefill, row 0"
    assert shaped.positions == plain.positions + (1 + 4) * 3


@pytest.mark.parametrize(
    "wrong", [None, ForgetsRotationOffset, IgnoresLengths, LastPositionOfTheFirstRow]
)
def test_a_reference_forced_through_its_blocks_once_sees_what_a_decoding_one_sees(wrong):
    """Also for a compiled shape, and where greedy texts part."""
    model, other = tiny(), tiny(seed=1) if wrong is None else tiny()
    shapes = [Shape("profile", 2, 5)]
    kind = wrong or (lambda given: TorchRunner(given, threads=1))
    with TorchRunner(model, threads=1) as reference, kind(other) as candidate:
        expected = compare(reference, candidate, TOKENS, steps=STEPS, shapes=shapes)
        got = compare_streamed(
            (model, FAMILIES["llama"]), candidate, TOKENS, steps=STEPS, shapes=shapes
        )
    assert (got.positions, got.greedy_tokens) == (expected.positions, expected.greedy_tokens)
    assert got.greedy_match == expected.greedy_match
    assert got.top1_agreement == expected.top1_agreement
    assert got.max_abs_error == pytest.approx(expected.max_abs_error, rel=1e-4)
    assert got.kl_mean == pytest.approx(expected.kl_mean, rel=1e-3)
