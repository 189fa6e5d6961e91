"""The model that Fisher information is gathered of: as it was, never differentiated by its weights, finite."""

import pytest
import torch
from tiny import tiny
from tiny_encoder import FAMILIES as ENCODERS
from tiny_encoder import tiny_encoder
from whole_backward import assert_same, gather, gather_decoder, labelled, texts

from numprune_export.calibration.gradients import block_backward, output_fisher
from numprune_export.calibration.gradients.losses import next_token_loss, next_tokens
from numprune_export.core.errors import InputError, NumericalError
from numprune_export.models.families import DECODERS


def test_the_model_is_as_it_was_and_ticks_count_both_ways():
    family, model = DECODERS["llama"], tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    blocks, frozen = model.model.layers, model.lm_head.weight
    frozen.requires_grad_(False)
    ticks, asked = [], set()
    for _ in output_fisher.next_token_fisher(model, family, texts(), batch=4, tick=ticks.append):
        asked.add(sum(parameter.requires_grad for parameter in model.parameters()))
    assert asked == {len(list(model.parameters())) - 1}
    assert sum(ticks) == block_backward.steps_of(model, family, 6) >= 4 * 3 * 6
    assert model.model.layers is blocks
    assert not frozen.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_blocks_come_from_the_last_to_the_first_and_may_be_left_early():
    family, model = DECODERS["llama"], tiny()
    blocks = output_fisher.next_token_fisher(model, family, texts(), batch=6, tick=lambda _: None)
    assert list(next(blocks)) == ["layers.2.attention", "layers.2.mlp"]
    assert list(next(blocks)) == ["layers.1.attention", "layers.1.mlp"]
    blocks.close()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_are_never_differentiated():
    """Their gradients would double the cost: no graph, of a block or of the head, leads to one."""
    family, model, windows = DECODERS["llama"], tiny(), texts()
    nodes = set()

    def walk(node):
        if node is not None and node not in nodes:
            nodes.add(node)
            for following, _ in node.next_functions:
                walk(following)

    def loss(outputs, labels):
        losses = next_token_loss(outputs, labels)
        walk(losses.grad_fn)
        return losses

    model.model.layers[1].register_forward_hook(
        lambda _module, _inputs, output: walk(output.grad_fn)
    )
    gather(model, family, windows, loss, next_tokens(windows), batch=6)
    variables = [
        function.variable for function in nodes if type(function).__name__ == "AccumulateGrad"
    ]
    assert [variable.shape for variable in variables] == [(6, 9, 64)] * 2


def test_half_precision_weights_give_the_same_within_their_rounding():
    family, windows = DECODERS["llama"], texts()
    model = tiny().bfloat16().float()
    exact = gather_decoder(model, family, windows)
    assert_same(gather_decoder(model.bfloat16(), family, windows), exact, relative=0.1)


def test_half_precision_gradients_are_multiplied_in_single_precision():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    site = DECODERS["llama"].sites(tiny())[0]
    sums = output_fisher._Sum(8, torch.device("cpu"))
    sums.add(rows)
    wide = rows.double()
    torch.testing.assert_close(sums.mean(site), wide.T @ wide / 50, rtol=1e-5, atol=1e-6)


def test_infinite_weights_are_named():
    family, model = DECODERS["llama"], tiny()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.inf
    with pytest.raises(NumericalError, match="the loss of a calibration example is not finite"):
        gather_decoder(model, family, texts())


def test_a_gradient_that_is_not_finite_is_named():
    family, model = ENCODERS["bert"], tiny_encoder("bert")

    def root_of_nothing(outputs, _):
        return (outputs.logits.sum(1) * 0).sqrt()

    with pytest.raises(NumericalError, match=r"at the output of `layers\.2\.attention` are not"):
        gather(model, family, texts(), root_of_nothing, torch.zeros(6))


def test_too_few_labels_are_refused():
    family, model = ENCODERS["bert"], tiny_encoder("bert")
    loss, labels, _ = labelled("sequence", texts())
    with pytest.raises(InputError, match="5 labels for 6 calibration examples"):
        gather(model, family, texts(), loss, labels[:5])
