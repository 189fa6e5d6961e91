"""What each fit sees of both models, and how often they are run."""

import pytest
import torch
from tiny_encoder import FAMILIES, tiny_encoder, uneven_encoder
from torch.nn import functional
from tuned import REAL, run, texts

from numprune_export.pruning.compensate.teacher_refit import Refit


def sublayers(model, family, block):
    """By kind: the consumer's input, its weight and bias, and what is added to the residual."""
    seen = {}
    handles = []
    parts = family.block_list(model)[block]
    for kind, consumer, norm in (
        ("attention", family.attention_output, family.attention_norm),
        ("mlp", family.down, family.mlp_norm),
    ):
        for role, path in (("h", consumer), ("sum", norm)):
            handles.append(
                parts.get_submodule(path).register_forward_pre_hook(
                    lambda _, given, key=(kind, role): seen.update({key: given[0]})
                )
            )
    with torch.no_grad():
        model(**family.inputs(torch.from_numpy(texts().tokens), REAL, None))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("task", ["sequence", "token"])
def test_each_fit_sees_the_students_tuned_prefix_and_the_tokens_that_matter(task):
    """The last MLP of a refitted model, refitted here from both models' own forward passes."""
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert", task), tiny_encoder("bert", task)
    small, _ = run(student, teacher, family, Refit(damping=0.1))
    given, wanted = (sublayers(model, family, 2) for model in (small, teacher))
    before = family.block_list(student)[2].output.dense
    after = family.block_list(small)[2].output.dense
    rows = (slice(None), 0) if task == "sequence" else REAL
    h = given["mlp", "h"][rows].double()
    rest = (given["mlp", "sum"] - functional.linear(given["mlp", "h"], after.weight, after.bias))[
        rows
    ]
    target = (wanted["mlp", "sum"][rows] - rest).double() - before.bias.double()
    # Affine ridge regression around the student's weight.
    mean_h, mean_b = h.mean(0), target.mean(0)
    hc, bc, w = h - mean_h, target - mean_b, before.weight.double()
    ridge = 0.1 * h.square().sum(0).mean() * torch.eye(h.shape[1])
    fitted = w + torch.linalg.solve(hc.T @ hc + ridge, hc.T @ (bc - hc @ w.T)).T
    torch.testing.assert_close(after.weight.double(), fitted, rtol=1e-3, atol=1e-3)
    bias = before.bias.double() + mean_b - fitted @ mean_h
    torch.testing.assert_close(after.bias.double(), bias, rtol=1e-3, atol=1e-3)


def test_the_teacher_is_run_through_once_and_the_student_no_more_than_it_must():
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert"), tiny_encoder("bert")
    passed = []
    for model in (student, teacher):
        for block in family.block_list(model):
            for path in (family.self_attention, family.up):
                block.get_submodule(path).register_forward_hook(
                    lambda *_, key=(model is teacher, path): passed.append(key)
                )
    run(student, teacher, family, Refit())
    batches = 2 * 3
    assert passed.count((True, family.self_attention)) == batches
    assert passed.count((True, family.up)) == batches
    assert passed.count((False, family.self_attention)) == 3 * batches
    assert passed.count((False, family.up)) == 2 * batches
