"""Mask tuning and the refit against least squares on the tokens themselves."""

import pytest
import torch
from tiny import tiny, uneven
from tiny_encoder import FAMILIES, tiny_encoder, uneven_encoder
from torch.nn import functional

from numprune_export import rewrite
from numprune_export.corpus import Windows
from numprune_export.errors import NumericalError, UnsupportedModelError
from numprune_export.families import llama
from numprune_export.fisher.moments import MomentSums
from numprune_export.fisher.tuning import assistant_budget, tune
from numprune_export.fisher.tuning_methods import Refit, ScalarTuning, fold, normal_equations

LENGTHS = torch.tensor([9, 4, 7, 2, 8, 5])
REAL = torch.arange(9) < LENGTHS[:, None]


def texts(pad=0):
    tokens = torch.randint(3, 97, (6, 9), generator=torch.Generator().manual_seed(0))
    return Windows(torch.where(REAL, tokens, pad).numpy(), LENGTHS.numpy())


def problem(units=4, width=3, out=5, tokens=50, seed=0):
    """A consumer's weight, its input, a target that needs scales near 1, and their moments."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(tokens, units * width, generator=generator) + 0.5
    weight = torch.randn(out, units * width, generator=generator)
    scales = 1 + torch.randn(units, generator=generator) / 3
    noise = torch.randn(tokens, out, generator=generator)
    b = h @ (weight * scales.repeat_interleave(width)).T + noise + 0.7
    sums = MomentSums(out, units * width, h.device)
    for part in (slice(0, 20), slice(20, tokens)):
        sums.add(h[part], b[part])
    return weight, h.double(), b.double(), sums.finish("here")


def columns(weight, h, width, constant):
    """Each unit's contribution to every output of every token, as a column."""
    units = h.shape[1] // width
    found = [
        (
            h[:, u * width : (u + 1) * width] @ weight.double()[:, u * width : (u + 1) * width].T
        ).flatten()
        for u in range(units)
    ]
    return torch.stack(found + [torch.ones_like(found[0])] * constant, 1)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("units", "width"), [(4, 3), (7, 1), (1, 4)])
def test_the_normal_equations_are_those_of_the_contributions(units, width, constant):
    weight, h, b, moments = problem(units, width)
    matrix, right = normal_equations(weight, moments, width, intercept=constant)
    a = columns(weight, h, width, constant)
    torch.testing.assert_close(matrix, a.T @ a, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(right, a.T @ b.flatten(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("kind", "width"), [("attention", 3), ("mlp", 1)])
def test_scales_minimise_the_damped_normal_residual_around_one(kind, width):
    weight, h, b, moments = problem(4, width)
    scales = ScalarTuning().scales(weight, moments, width, kind)
    a = columns(weight, h, width, kind == "attention")
    g, one = a.T @ a, torch.ones(a.shape[1], dtype=torch.float64)
    deviation = torch.linalg.solve(
        g @ g + torch.eye(len(g)), g @ (a.T @ b.flatten() - g @ one)
    )  # minimises ‖G·x − (r − G·1)‖² + ‖x‖²
    torch.testing.assert_close(scales, (1 + deviation)[:4], rtol=1e-3, atol=1e-4)


def test_folded_scales_are_a_mask_on_the_input():
    weight, h, _, _ = problem(4, 3)
    scales = torch.tensor([0.5, -2.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        h @ fold(weight, scales).T, (h * scales.repeat_interleave(3)) @ weight.double().T
    )


def test_a_scale_out_of_bounds_and_a_solver_that_fails_are_not_accepted():
    weight, _, _, moments = problem(4, 3)
    scales = ScalarTuning().scales(weight, moments, 3, "attention")
    limit = float(scales.abs().max())
    assert ScalarTuning(bound=limit * 1.01).scales(weight, moments, 3, "attention") is not None
    assert ScalarTuning(bound=limit * 0.99).scales(weight, moments, 3, "attention") is None

    weight, h, b, _ = problem(12, 1, tokens=200)
    h = h * 10 ** torch.linspace(-2, 1, 12)  # G is then far too badly conditioned
    sums = MomentSums(5, 12, h.device)
    sums.add(h, b)
    assert ScalarTuning().scales(weight, sums.finish("here"), 1, "mlp") is None


@pytest.mark.parametrize("affine", [False, True])
def test_the_refit_is_ridge_regression_on_the_change(affine):
    weight, h, b, moments = problem()
    fitted, shift = Refit(bias=affine).solve(weight, moments, 3, "mlp", has_bias=True)
    ridge = 0.01 * (h * h).sum(0).mean()
    trial = torch.as_tensor(fitted).clone().requires_grad_()
    constant = torch.as_tensor(shift, dtype=torch.float64).clone().requires_grad_()
    loss = (h @ trial.T + constant - b).square().sum()
    loss = loss + ridge * (trial - weight).square().sum()
    slopes = torch.autograd.grad(loss, [trial, constant])
    assert slopes[0].abs().max() < 1e-3
    assert slopes[1].abs().max() < 1e-3 or not affine
    assert affine or shift == 0.0


def test_a_layer_without_a_bias_is_given_none():
    weight, _, _, moments = problem()
    assert Refit().solve(weight, moments, 3, "mlp", has_bias=False)[1] == 0.0


@pytest.mark.parametrize("shift", [0.0, torch.arange(5).double()])
def test_the_error_is_that_of_the_tokens(shift):
    weight, h, b, moments = problem()
    expected = (h @ weight.double().T + shift - b).square().sum() / b.square().sum()
    assert moments.error(weight, shift) == pytest.approx(float(expected), rel=1e-5)


def test_what_the_weight_lacks_has_the_moments_of_the_target_beside_it():
    weight, h, b, moments = problem()
    short = MomentSums(5, 12, h.device)
    short.add(h, b - h @ weight.double().T)
    found = short.finish("here").beside(weight)
    assert found.energy == pytest.approx(moments.energy, rel=1e-5)
    for name in ("gram", "cross", "inputs", "targets"):
        torch.testing.assert_close(
            getattr(found, name), getattr(moments, name), rtol=1e-5, atol=1e-4
        )


def test_sums_do_not_depend_on_how_many_tokens_come_at_once(monkeypatch):
    whole = problem(tokens=50)[3]
    monkeypatch.setattr("numprune_export.fisher.moments.CHUNK", 7)
    for name, one in vars(problem(tokens=50)[3]).items():
        torch.testing.assert_close(one, vars(whole)[name], rtol=1e-5, atol=1e-4)


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


def test_the_refit_contains_the_scales():
    weight, _, _, moments = problem(6, 2, seed=3)
    scaled, _ = ScalarTuning().solve(weight, moments, 2, "mlp", has_bias=True)
    refitted, shift = Refit(damping=1e-6).solve(weight, moments, 2, "mlp", has_bias=True)
    errors = [moments.error(weight), moments.error(scaled), moments.error(refitted, shift)]
    assert errors[0] > 1.01 * errors[1] > 1.02 * errors[2]


def run(student, teacher, family, method, pad=0):
    ticks = []
    small, record = tune(student, teacher, family, texts(pad), method, batch=4, tick=ticks.append)
    assert ticks == [4, 2] * len(family.block_list(student))
    return small, {one.site: one for one in record}


METHODS = [ScalarTuning(first_attention=True, stop_at_rejection=False), Refit()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_tuned_encoder_is_nearer_to_its_teacher(model_type, method):
    family = FAMILIES[model_type]
    student, teacher = uneven_encoder(model_type), tiny_encoder(model_type)
    small, record = run(student, teacher, family, method, teacher.config.pad_token_id)
    assert list(record) == [site.name for site in family.sites(student)]
    tuned = [one for one in record.values() if one.outcome == "tuned"]
    assert len(tuned) >= 4
    assert all(one.error_after < one.error_before for one in tuned)
    assert distance(small, teacher, family) < distance(student, teacher, family)


@pytest.mark.parametrize("method", METHODS)
def test_a_tuned_decoder_is_nearer_to_its_teacher(method):
    student, teacher = uneven("llama"), tiny("llama")
    small, record = run(student, teacher, llama.FAMILY, method)
    assert {one.outcome for one in record.values()} <= {"tuned", "rejected"}
    tuned = [one for one in record.values() if one.outcome == "tuned"]
    assert len(tuned) >= 3
    assert all(one.error_after < one.error_before for one in tuned)
    # One scale per unit can be worse further on, where a norm follows; a refit has more to give.
    if isinstance(method, Refit):
        assert distance(small, teacher, llama.FAMILY) < distance(student, teacher, llama.FAMILY)


@torch.no_grad()
def distance(student, teacher, family):
    """Between the last hidden states of real tokens."""
    inputs = family.inputs(torch.from_numpy(texts(teacher.config.pad_token_id).tokens), REAL, None)
    last = [
        model.get_submodule(family.trunk)(**inputs).last_hidden_state[REAL]
        for model in (student, teacher)
    ]
    return float((last[0] - last[1]).square().sum())


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
    given, wanted = (sublayers(one, family, 2) for one in (small, teacher))
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


def test_a_student_that_is_its_teacher_stays_as_it_is():
    family, model = FAMILIES["bert"], uneven_encoder("bert")
    for method in METHODS:
        small, record = run(model, model, family, method)
        assert all(one.error_before < 1e-5 for one in record.values())
        for name, value in model.state_dict().items():
            torch.testing.assert_close(small.state_dict()[name], value, rtol=1e-4, atol=1e-4)


def test_a_tuned_model_is_the_masked_one_with_real_valued_masks():
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert"), tiny_encoder("bert")
    method = METHODS[0]
    small, record = run(student, teacher, family, method)
    handles = []
    for site in family.sites(student):
        blocks = [family.block_list(one)[site.block] for one in (student, small)]
        old, new = (one.get_submodule(site.consumer) for one in blocks)
        ratio = (new.weight / old.weight).detach().unflatten(1, (site.units, -1))
        scales = ratio.mean((0, 2))
        torch.testing.assert_close(
            ratio, scales[None, :, None].expand_as(ratio), rtol=1e-3, atol=1e-4
        )
        assert (scales != 1).any() == (record[site.name].outcome == "tuned")
        assert torch.equal(old.bias, new.bias)

        def multiply(_, given, scales=scales, width=site.consumer_width):
            return (given[0] * scales.repeat_interleave(width),)

        handles.append(old.register_forward_pre_hook(multiply))
    inputs = family.inputs(torch.from_numpy(texts().tokens), REAL, None)
    with torch.no_grad():
        masked, folded = student(**inputs).logits, small(**inputs).logits
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(folded, masked, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert (folded - student(**inputs).logits).abs().max() > 1e-2


def test_the_first_attention_is_left_alone_and_a_rejection_stops_all_after_it():
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert"), tiny_encoder("bert")
    _, record = run(student, teacher, family, ScalarTuning(stop_at_rejection=False))
    assert record["layers.0.attention"].outcome == "left alone"
    outcomes = [one.outcome for one in record.values()]
    assert "tuned" in outcomes[outcomes.index("rejected") :]

    small, record = run(student, teacher, family, ScalarTuning(bound=1e-3))
    outcomes = [one.outcome for one in record.values()]
    assert outcomes == ["left alone", "rejected"] + ["left alone"] * 4
    assert all(torch.equal(small.state_dict()[k], v) for k, v in student.state_dict().items())


def test_the_student_is_not_changed():
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert"), tiny_encoder("bert")
    before = {name: one.clone() for name, one in student.state_dict().items()}
    run(student, teacher, family, Refit())
    assert all(torch.equal(one, before[name]) for name, one in student.state_dict().items())


def test_emptied_sublayers_are_passed_through():
    family = FAMILIES["bert"]
    student, teacher = tiny_encoder("bert"), tiny_encoder("bert")
    for index, site in ((1, "attention"), (2, "mlp")):
        found = next(one for one in family.sites(student) if one.name == f"layers.{index}.{site}")
        block = family.block_list(student)[index]
        rewrite.empty(block, found, block.get_submodule(found.consumer).bias)
    small, record = run(student, teacher, family, Refit())
    assert "layers.1.attention" not in record
    assert len(record) == 4
    assert distance(small, teacher, family) < distance(student, teacher, family)


def test_infinite_activations_are_named():
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert"), tiny_encoder("bert")
    with torch.no_grad():
        family.block_list(student)[1].intermediate.dense.bias[0] = torch.inf
    with pytest.raises(NumericalError, match=r"activations at `layers\.1\.mlp`"):
        run(student, teacher, family, Refit())


def test_a_family_whose_sublayers_end_nowhere_known_is_refused():
    class Other:
        model_type = "other"

        def __getattr__(self, name):
            return getattr(llama.FAMILY, name)

    with pytest.raises(UnsupportedModelError, match="sublayers of `other`"):
        run(tiny("llama"), tiny("llama"), Other(), Refit())


def test_the_assistants_budget_is_the_root_of_the_fraction():
    assert assistant_budget(50.0, 200.0) == pytest.approx(0.5 * 200.0)
