"""Recovery: the loss is the divergence of whole logits, the best weights stay, a stop changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny

from numprune_export.calibration.statistics import Statistics
from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.models.families import FAMILIES
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan
from numprune_export.pruning.recover import divergence as divergence_of_logits
from numprune_export.pruning.recover.divergence import divergence
from numprune_export.pruning.recover.schedule import Schedule
from numprune_export.pruning.recover.settings import Recover
from numprune_export.pruning.recover.training import Recovery, RecoveryTexts

FAMILY = FAMILIES["llama"]
SETTINGS = Recover(tokens=8 * 2 * 12, check_every=4, learning_rate=3e-3)


class Stopped(Exception):
    """Raised in the place of a kill."""


def windows(count, seed, lengths=None):
    tokens = np.random.default_rng(seed).integers(3, 97, (count, 12))
    return Windows(tokens, np.full(count, 12) if lengths is None else np.array(lengths))


def models():
    teacher = tiny(num_hidden_layers=1).eval()
    sites = FAMILY.sites(teacher)
    plan = Plan(sites, {site.name: tuple(range(0, site.units, 2)) for site in sites})
    small = apply.one_shot(teacher, FAMILY, plan, Nothing(), Statistics.of_nothing)
    student = tiny(num_hidden_layers=1)  # of its own memory
    student.model.layers = torch.nn.ModuleList(small.model.layers)
    for weight in student.parameters():
        weight.data = weight.data.clone()
    return student, teacher


def recovery(settings=SETTINGS):
    texts = RecoveryTexts(windows(10, 0), {"a": windows(2, 1), "b": windows(2, 2)}, 0)
    return Recovery(*models(), FAMILY, texts, settings)


def weights(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_it_is_the_divergence_of_whole_logits_and_so_is_its_gradient(monkeypatch):
    student, teacher = models()
    texts = windows(3, 5, lengths=[12, 7, 1])
    real = np.arange(12) < texts.lengths[:, None]
    tokens = torch.from_numpy(texts.tokens)
    mask = torch.from_numpy(real).long()
    own = student(tokens, attention_mask=mask).logits.log_softmax(-1)[mask.bool()]
    target = teacher(tokens, attention_mask=mask).logits.log_softmax(-1)[mask.bool()].detach()
    expected = (target.exp() * (target - own)).sum()
    trained = student.model.norm.weight, student.lm_head.weight
    wanted = torch.autograd.grad(expected, trained)
    monkeypatch.setattr(divergence_of_logits, "LOGITS_AT_ONCE", 7 * 97)
    total, count = divergence(student, teacher, FAMILY, texts)
    assert count == real.sum()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad(total, trained)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_it_comes_nearer_to_the_dense_model_and_trains_blocks_alone(tmp_path):
    task, steps = recovery(), []
    before, embedding = weights(task.student), task.student.get_input_embeddings().weight.clone()
    looks = task.run(tmp_path, steps.append)
    assert [look.step for look in looks] == [0, 4, 8]
    assert sum(steps) == task.steps == 8
    assert looks[-1].mean < 0.95 * looks[0].mean
    assert set(looks[0].held_out) == {"a", "b"}
    assert torch.equal(task.student.get_input_embeddings().weight, embedding)
    changed = [
        name for name, weight in weights(task.student).items() if not weight.equal(before[name])
    ]
    assert "model.layers.0.mlp.down_proj.weight" in changed
    assert "model.norm.weight" in changed


@pytest.mark.parametrize("at", [3, 6])
def test_stopped_it_goes_on_to_the_same_weights(tmp_path, at):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole, first, done = recovery(), recovery(), []
    expected = whole.run(tmp_path / "whole", lambda _: None)

    def stop(steps):
        done.append(steps)
        if sum(done) == at:
            raise Stopped

    with pytest.raises(Stopped):
        first.run(tmp_path / "stopped", stop)
    again = recovery()
    looks = again.run(tmp_path / "stopped", lambda _: None)
    assert [look.held_out for look in looks] == [look.held_out for look in expected]
    ours, theirs = weights(again.student), weights(whole.student)
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_a_training_that_harms_leaves_the_weights_as_they_were_and_ends_early(tmp_path):
    harmful = SETTINGS.model_copy(update={"learning_rate": 3.0, "check_every": 1, "patience": 2})
    task = recovery(harmful)
    before = weights(task.student)
    looks = task.run(tmp_path, lambda _: None)
    assert [look.step for look in looks] == [0, 1, 2]
    assert all(weight.equal(before[name]) for name, weight in weights(task.student).items())


def test_what_is_not_finite_is_said(tmp_path):
    task = recovery()
    with torch.no_grad():
        task.student.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NumericalError, match="not finite"):
        task.run(tmp_path, lambda _: None)


def test_every_pass_has_an_order_of_its_own():
    task = recovery()
    task = replace(task, settings=SETTINGS.model_copy(update={"batch": 4}))
    batches = task._batches(0)
    rows = [next(batches)[1].tolist() for _ in range(6)]
    passes = [rows[at] + rows[at + 1] for at in (0, 2, 4)]
    assert passes[0] == list(range(8))
    assert passes[1] != passes[2] != passes[0]
    again = task._batches(3)
    assert next(again)[1].tolist() == rows[3]


def test_minutes_end_it_and_move_the_rate():
    schedule = Schedule(100, minutes=1)
    assert schedule.done(10, 30) == 0.5
    assert schedule.done(60, 30) == 0.6
    assert schedule.done(1, 60) == 1
    assert schedule.rate(0.1) == 1
    assert schedule.rate(0) == schedule.rate(1) == pytest.approx(0.05)
