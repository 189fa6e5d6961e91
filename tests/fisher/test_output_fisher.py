"""Block-by-block Fisher information against one backward pass through the whole model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from emptied import EMPTIED, emptied_encoder
from tiny import MODEL_TYPES, tiny, uneven
from tiny_encoder import FAMILIES as ENCODERS
from tiny_encoder import TASKS, tiny_encoder, uneven_encoder
from torch.nn import functional

from numprune_export.calibrate import Statistics
from numprune_export.corpus import Windows
from numprune_export.errors import InputError, NumericalError
from numprune_export.families import DECODERS
from numprune_export.fisher import next_token, output_fisher
from numprune_export.fisher.next_token import next_token_loss, next_tokens
from numprune_export.fisher.own_predictions import OwnPredictions
from numprune_export.statistics_folder import read_site, write_block, write_output_fisher

LENGTHS = np.array([9, 4, 7, 2, 9, 5])


def texts(pad=0, length=9, lengths=LENGTHS):
    tokens = np.random.default_rng(0).integers(3, 97, (6, 9))
    tokens = np.where(np.arange(9) < lengths[:, None], tokens, pad)
    tokens = np.pad(tokens, ((0, 0), (0, length - 9)), constant_values=pad)
    return Windows(tokens, lengths)


def gather(model, family, windows, loss, labels, batch=2, **settings):
    found = {}
    for block in output_fisher.output_fisher(
        model, family, windows, loss, labels, batch=batch, tick=lambda _: None, **settings
    ):
        found |= block
    return found


def gather_decoder(model, family, windows, batch=2):
    found = {}
    for block in output_fisher.next_token_fisher(
        model, family, windows, batch=batch, tick=lambda _: None
    ):
        found |= block
    return found


def whole(model, family, windows, loss):
    """F by one backward pass per text, unpadded, in fp64; `loss(model's output, row) -> number`."""
    sums, outputs, handles = {}, {}, []
    exact, sites = model.double(), family.sites(model)
    for site in sites:
        consumer = family.block_list(exact)[site.block].get_submodule(site.consumer)

        def keep(_module, _inputs, output, name=site.name):
            outputs[name] = output

        handles.append(consumer.register_forward_hook(keep))
    for row, length in enumerate(windows.lengths):
        tokens = torch.from_numpy(windows.tokens[row : row + 1, :length])
        answer = exact(**family.inputs(tokens, torch.ones_like(tokens).bool(), None))
        gradients = torch.autograd.grad(loss(answer, row), list(outputs.values()))
        for name, one in zip(outputs, gradients, strict=True):
            sums[name] = sums.get(name, 0) + one[0].T @ one[0]
    for handle in handles:
        handle.remove()
    model.float()
    return {name: one / windows.lengths.sum() for name, one in sums.items()}


def assert_same(found, expected, relative=1e-4):
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name].dtype is torch.float64
        assert one.abs().max() > 1e-9, name
        assert (found[name] - one).abs().max() < relative * one.abs().max(), name


def next_token_nats(windows):
    def loss(answer, row):
        following = torch.from_numpy(windows.tokens[row, 1 : windows.lengths[row]])
        return functional.cross_entropy(answer.logits[0, :-1], following, reduction="sum")

    return loss


def labelled(task, windows):
    """A task's (loss, labels), and the loss of one unpadded row for the oracle."""
    classes, lengths = torch.tensor([0, 3, 1, 4, 2, 0]), torch.from_numpy(windows.lengths)
    tags = torch.from_numpy(windows.tokens) % 5
    padded = torch.arange(tags.shape[1]) >= lengths[:, None]
    ends = torch.stack([lengths // 2, lengths - 1], 1)
    cross_entropy = functional.cross_entropy

    def of_tokens(outputs, labels):
        labels = labels[:, : outputs.logits.shape[1]]
        each = cross_entropy(outputs.logits.mT, labels, reduction="none")
        return each.sum(1) / (labels >= 0).sum(1)

    def of_span(outputs, labels):
        hidden = torch.arange(outputs.start_logits.shape[1]) >= labels[:, 1:] + 1
        return sum(
            cross_entropy(one.masked_fill(hidden, -torch.inf), labels[:, index], reduction="none")
            for index, one in enumerate((outputs.start_logits, outputs.end_logits))
        )

    match task:
        case "sequence":
            return (
                lambda outputs, labels: cross_entropy(outputs.logits, labels, reduction="none"),
                classes,
                lambda answer, row: cross_entropy(answer.logits, classes[row : row + 1]),
            )
        case "token":
            return (
                of_tokens,
                tags.masked_fill(padded, -100),
                lambda answer, row: cross_entropy(answer.logits[0], tags[row, : lengths[row]]),
            )
        case "span":
            return (
                of_span,
                ends,
                lambda answer, row: (
                    cross_entropy(answer.start_logits[0], ends[row, 0])
                    + cross_entropy(answer.end_logits[0], ends[row, 1])
                ),
            )


@pytest.mark.parametrize("make", [tiny, uneven])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_decoders_fisher_is_that_of_a_backward_pass_through_all_of_it(model_type, make):
    family, model, windows = DECODERS[model_type], make(model_type), texts()
    expected = whole(model, family, windows, next_token_nats(windows))
    assert len(expected) == 6
    assert_same(gather_decoder(model, family, windows), expected)


def test_layers_with_masks_of_their_own():
    family = DECODERS["qwen2"]
    model = tiny(
        "qwen2",
        sliding_window=3,
        use_sliding_window=True,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
    )
    windows = texts()
    expected = whole(model, family, windows, next_token_nats(windows))
    assert_same(gather_decoder(model, family, windows), expected)


@pytest.mark.parametrize("make", [tiny_encoder, uneven_encoder])
@pytest.mark.parametrize(
    ("model_type", "task"),
    [("bert", one) for one in TASKS]
    + [("roberta", "token"), ("roberta", "sequence"), ("distilbert", "sequence")]
    + [("distilbert", "span")],
)
def test_an_encoders_fisher_is_that_of_a_backward_pass_through_all_of_it(model_type, task, make):
    family, model = ENCODERS[model_type], make(model_type, task)
    windows = texts(model.config.pad_token_id)
    loss, labels, of_row = labelled(task, windows)
    expected = whole(model, family, windows, of_row)
    assert len(expected) == 6
    assert_same(gather(model, family, windows, loss, labels, batch=4), expected)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_emptied_sublayers_have_no_fisher_and_let_gradients_through(model_type):
    family, model = ENCODERS[model_type], emptied_encoder(model_type)
    windows = texts(model.config.pad_token_id)
    loss, labels, of_row = labelled("sequence", windows)
    expected = whole(model, family, windows, of_row)
    assert expected.keys() == {"layers.0.mlp", "layers.1.attention"}
    assert len(EMPTIED) + len(expected) == 6
    assert_same(gather(model, family, windows, loss, labels), expected)


def test_padding_has_no_effect():
    family, model = ENCODERS["bert"], tiny_encoder("bert", "token")
    short, long = (
        gather(model, family, windows, *labelled("token", windows)[:2], batch=6)
        for windows in (texts(), texts(length=15))
    )
    assert_same(long, short)
    decoder = tiny()
    other = texts(pad=50, length=15)
    assert_same(
        gather_decoder(decoder, DECODERS["llama"], other),
        gather_decoder(decoder, DECODERS["llama"], texts()),
    )


def test_batches_change_nothing():
    family, model, windows = DECODERS["llama"], tiny(), texts()
    one = gather_decoder(model, family, windows, batch=6)
    for batch in (1, 4):
        assert_same(gather_decoder(model, family, windows, batch=batch), one)


@pytest.mark.parametrize("rounds", ["all batches", "one batch"])
def test_residual_streams_are_kept_of_all_batches_or_of_one(rounds, monkeypatch):
    family, model, windows = DECODERS["llama"], tiny(), texts()
    expected = whole(model, family, windows, next_token_nats(windows))
    batches = windows.by_length(2)
    split = [batches] if rounds == "all batches" else [[one] for one in batches]
    monkeypatch.setattr(output_fisher, "_rounds", lambda *_: split)
    assert_same(gather_decoder(model, family, windows), expected)


def test_what_is_kept_is_what_takes_less_memory():
    family, model = DECODERS["llama"], tiny()
    one = texts(lengths=np.full(6, 9))
    # 3 blocks · 54 tokens · 64 · 4 bytes against 6 sites · 64 · 64 · 8 bytes.
    assert len(output_fisher._rounds(model, family, one, 2)) == 1
    many = Windows(one.tokens.repeat(5, 0), one.lengths.repeat(5))
    assert len(output_fisher._rounds(model, family, many, 2)) == 15


@pytest.mark.parametrize("positions", [1, 4, 8])
def test_the_head_sees_some_positions_at_a_time(positions, monkeypatch):
    family, model, windows = DECODERS["llama"], tiny(), texts()
    seen = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    whole_head = gather_decoder(model, family, windows, batch=3)
    assert seen == [(3, 9, 64), (3, 5, 64)]
    seen.clear()
    monkeypatch.setattr(next_token, "LOGITS_AT_ONCE", positions * 3 * 97)
    assert_same(gather_decoder(model, family, windows, batch=3), whole_head)
    assert {shape[1] for shape in seen} <= {positions, 9 % positions, 5 % positions}
    assert len(seen) == -(-9 // positions) - (-5 // positions)


def test_own_predictions_of_a_regression_give_the_fisher_of_its_answers_slope():
    family, model = ENCODERS["bert"], tiny_encoder("bert", num_labels=1)
    windows = texts()
    real = torch.arange(9) < torch.from_numpy(LENGTHS)[:, None]
    own = OwnPredictions("sequence", torch.Generator().manual_seed(3))
    expected = whole(model, family, windows, lambda answer, _: answer.logits[0, 0])
    assert_same(gather(model, family, windows, own, real), expected)


def test_the_model_is_as_it_was_and_ticks_count_both_ways():
    family, model = DECODERS["llama"], tiny()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    blocks, frozen = model.model.layers, model.lm_head.weight
    frozen.requires_grad_(False)
    ticks, asked = [], set()
    for _ in output_fisher.next_token_fisher(model, family, texts(), batch=4, tick=ticks.append):
        asked.add(sum(one.requires_grad for one in model.parameters()))
    assert asked == {len(list(model.parameters())) - 1}
    assert sum(ticks) == 2 * 3 * 6
    assert model.model.layers is blocks
    assert not frozen.requires_grad
    assert all(one.grad is None for one in model.parameters())
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_blocks_come_from_the_last_to_the_first_and_may_be_left_early():
    family, model = DECODERS["llama"], tiny()
    found = output_fisher.next_token_fisher(model, family, texts(), batch=6, tick=lambda _: None)
    assert list(next(found)) == ["layers.2.attention", "layers.2.mlp"]
    assert list(next(found)) == ["layers.1.attention", "layers.1.mlp"]
    found.close()
    assert all(one.requires_grad for one in model.parameters())
    assert not any(one._forward_hooks for one in model.modules())


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
    variables = [one.variable for one in nodes if type(one).__name__ == "AccumulateGrad"]
    assert [one.shape for one in variables] == [(6, 9, 64)] * 2


def test_half_precision_weights_give_the_same_within_their_rounding():
    family, windows = DECODERS["llama"], texts()
    model = tiny().bfloat16().float()
    exact = gather_decoder(model, family, windows)
    assert_same(gather_decoder(model.bfloat16(), family, windows), exact, relative=0.1)


def test_half_precision_gradients_are_multiplied_in_single_precision():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    site = DECODERS["llama"].sites(tiny())[0]
    sums = output_fisher._Sum(8)
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


def test_next_tokens_end_with_the_window():
    windows = Windows(np.array([[5, 6, 7, 0], [8, 9, 3, 4], [2, 0, 0, 0]]), np.array([3, 4, 1]))
    assert next_tokens(windows).tolist() == [
        [6, 7, -100, -100],
        [9, 3, 4, -100],
        [-100, -100, -100, -100],
    ]


def test_next_token_loss_is_a_sum_in_nats():
    logits = torch.zeros(2, 3, 97)
    following = torch.tensor([[4, 5, -100], [6, -100, -100]])
    found = next_token_loss(SimpleNamespace(logits=logits), following)
    torch.testing.assert_close(found, np.log(97) * torch.tensor([2.0, 1.0]))


def test_next_token_loss_of_half_precision_logits_is_computed_in_single_precision():
    logits = torch.randn(1, 3, 97, generator=torch.Generator().manual_seed(0)).bfloat16()
    following = torch.tensor([[4, 5, 6]])
    found = next_token_loss(SimpleNamespace(logits=logits), following)
    exact = -logits[0].double().log_softmax(1)[range(3), following[0]].sum()
    torch.testing.assert_close(found, exact[None].float(), rtol=1e-6, atol=0)


def test_the_folder_keeps_it_bit_by_bit(tmp_path):
    family, model, windows = DECODERS["llama"], tiny(), texts()
    fisher = gather_decoder(model, family, windows)
    site = family.sites(model)[3]
    wide = site.units * site.consumer_width
    statistics = Statistics(torch.eye(wide), torch.zeros(wide).double(), 5)
    write_block(tmp_path, site.block, {site.name: statistics})
    assert read_site(tmp_path, site, tmp_path).output_fisher is None
    write_output_fisher(tmp_path, fisher)
    assert torch.equal(read_site(tmp_path, site, tmp_path).output_fisher, fisher[site.name])
