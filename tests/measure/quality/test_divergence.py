"""KL of a pruned model's answers from the dense one's: by hand, without padding, zero for itself."""

import numpy as np
import pytest
import torch
from tiny import tiny, uneven
from tiny_encoder import FAMILIES as ENCODERS
from tiny_encoder import TASKS, tiny_encoder

from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.models.families import DECODERS
from numprune_export.numerics.matmul_precision import matmul_precision

LENGTHS = np.array([9, 4, 7])


def windows(seed=0, types=False):
    tokens = np.random.default_rng(seed).integers(3, 97, (3, 9))
    return Windows(tokens, LENGTHS, np.zeros_like(tokens) if types else None)


def by_hand(dense, pruned, family, texts):
    """One text at a time, no padding, fp64."""
    total, count = 0.0, 0
    for row, length in zip(texts.tokens, texts.lengths, strict=True):
        ids = torch.from_numpy(row[None, :length])
        outputs = [
            model.double()(**family.inputs(ids, torch.ones_like(ids, dtype=torch.bool), None))
            for model in (dense, pruned)
        ]
        names = (
            ("start_logits", "end_logits") if hasattr(outputs[0], "start_logits") else ("logits",)
        )
        for name in names:
            p, q = (getattr(output, name) for output in outputs)
            p, q = (logits.reshape(-1, logits.shape[-1]).log_softmax(-1) for logits in (p, q))
            total += float((p.exp() * (p - q)).sum())
            count += len(p)
    return total / count, count


def test_of_next_tokens():
    dense, pruned, texts = tiny(), uneven(), windows()
    with torch.no_grad():
        expected, count = by_hand(tiny(), uneven(), DECODERS["llama"], texts)
    answers = DenseLogits.of(dense, DECODERS["llama"], texts, batch=2)
    divergence = answers.divergence(pruned)
    assert divergence.value == pytest.approx(expected, rel=1e-4)
    assert divergence.samples == count == LENGTHS.sum()
    assert answers.divergence(dense).value == 0


@pytest.mark.parametrize("model_type", sorted(DECODERS))
def test_of_one_in_so_many_next_tokens(model_type):
    dense, pruned = tiny(model_type), tiny(model_type, seed=1)
    total = count = 0.0
    for row, length in zip(windows().tokens, LENGTHS, strict=True):
        ids = torch.from_numpy(row[None, :length])
        with torch.no_grad():
            p, q = (model(ids).logits[0, ::3].double().log_softmax(-1) for model in (dense, pruned))
        total, count = total + float((p.exp() * (p - q)).sum()), count + len(p)
    answers = DenseLogits.of(dense, DECODERS[model_type], windows(), batch=2, stride=3)
    divergence = answers.divergence(pruned)
    assert (divergence.value, divergence.samples) == (
        pytest.approx(total / count, rel=1e-4),
        3 + 2 + 3,
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_of_an_encoders_answers(model_type, task):
    family = ENCODERS[model_type]
    dense, pruned = tiny_encoder(model_type, task), tiny_encoder(model_type, task, seed=1)
    with torch.no_grad():
        expected, count = by_hand(
            tiny_encoder(model_type, task),
            tiny_encoder(model_type, task, seed=1),
            family,
            windows(),
        )
    answers = DenseLogits.of(dense, family, windows(), batch=3)
    divergence = answers.divergence(pruned)
    assert divergence.value == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert divergence.samples == count
    assert answers.divergence(dense).value == 0


def test_a_model_that_answers_nonsense_is_refused():
    broken = tiny()
    broken.model.norm.weight.data[0] = torch.nan
    with pytest.raises(NumericalError, match="not finite"):
        DenseLogits.of(tiny(), DECODERS["llama"], windows(), batch=2).divergence(broken)


def test_products_are_as_before_afterwards():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), matmul_precision("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == before
