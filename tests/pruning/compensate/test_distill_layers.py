"""A student tuned towards its teacher, layer by layer."""

import pytest
import torch
from tiny import tiny, uneven
from tiny_encoder import FAMILIES, tiny_encoder, uneven_encoder
from tuned import REAL, distance, run, texts

from numprune_export.core.errors import NumericalError
from numprune_export.models.families import llama
from numprune_export.pruning import rewrite
from numprune_export.pruning.compensate.distill_layers import assistant_budget
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.teacher_refit import Refit

METHODS = [ScalarTuning(first_attention=True, stop_at_rejection=False), Refit()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_tuned_encoder_is_nearer_to_its_teacher(model_type, method):
    family = FAMILIES[model_type]
    student, teacher = uneven_encoder(model_type), tiny_encoder(model_type)
    small, record = run(student, teacher, family, method, teacher.config.pad_token_id)
    assert list(record) == [site.name for site in family.sites(student)]
    tuned = [layer for layer in record.values() if layer.outcome == "tuned"]
    assert len(tuned) >= 4
    assert all(layer.error_after < layer.error_before for layer in tuned)
    assert distance(small, teacher, family) < distance(student, teacher, family)


@pytest.mark.parametrize("method", METHODS)
def test_a_tuned_decoder_is_nearer_to_its_teacher(method):
    student, teacher = uneven("llama"), tiny("llama")
    small, record = run(student, teacher, llama.FAMILY, method)
    assert {layer.outcome for layer in record.values()} <= {"tuned", "rejected"}
    tuned = [layer for layer in record.values() if layer.outcome == "tuned"]
    assert len(tuned) >= 3
    assert all(layer.error_after < layer.error_before for layer in tuned)
    # One scale per unit can be worse further on, where a norm follows; a refit has more to give.
    if isinstance(method, Refit):
        assert distance(small, teacher, llama.FAMILY) < distance(student, teacher, llama.FAMILY)


def test_a_student_that_is_its_teacher_stays_as_it_is():
    family, model = FAMILIES["bert"], uneven_encoder("bert")
    for method in METHODS:
        small, record = run(model, model, family, method)
        assert all(layer.error_before < 1e-5 for layer in record.values())
        for name, value in model.state_dict().items():
            torch.testing.assert_close(small.state_dict()[name], value, rtol=1e-4, atol=1e-4)


def test_a_tuned_model_is_the_masked_one_with_real_valued_masks():
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert"), tiny_encoder("bert")
    method = METHODS[0]
    small, record = run(student, teacher, family, method)
    handles = []
    for site in family.sites(student):
        blocks = [family.block_list(model)[site.block] for model in (student, small)]
        old, new = (block.get_submodule(site.consumer) for block in blocks)
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
    outcomes = [layer.outcome for layer in record.values()]
    assert "tuned" in outcomes[outcomes.index("rejected") :]

    small, record = run(student, teacher, family, ScalarTuning(bound=1e-3))
    outcomes = [layer.outcome for layer in record.values()]
    assert outcomes == ["left alone", "rejected"] + ["left alone"] * 4
    assert all(torch.equal(small.state_dict()[k], v) for k, v in student.state_dict().items())


def test_the_student_is_not_changed():
    family = FAMILIES["bert"]
    student, teacher = uneven_encoder("bert"), tiny_encoder("bert")
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    run(student, teacher, family, Refit())
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_emptied_sublayers_are_passed_through():
    family = FAMILIES["bert"]
    student, teacher = tiny_encoder("bert"), tiny_encoder("bert")
    for index, site in ((1, "attention"), (2, "mlp")):
        sublayer = next(
            candidate
            for candidate in family.sites(student)
            if candidate.name == f"layers.{index}.{site}"
        )
        block = family.block_list(student)[index]
        rewrite.empty(block, sublayer, block.get_submodule(sublayer.consumer).bias)
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


def test_the_assistants_budget_is_the_root_of_the_fraction():
    assert assistant_budget(50.0, 200.0) == pytest.approx(0.5 * 200.0)
