"""How exactly products are computed, and where."""

import copy

import pytest
import torch
from tiny import tiny
from tiny_encoder import tiny_encoder
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from numprune_export.numerics import matmul_precision as module
from numprune_export.numerics.matmul_precision import FEW, matmul_precision


class Watch(TorchFunctionMode):
    """Notes the precision that each function is called under, the dtype of what it is given, and the
    shapes of what is converted."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.converted = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (linear, scaled_dot_product_attention):
            self.seen.append((func, torch.get_float32_matmul_precision(), args[0].dtype))
        if func is torch.Tensor.bfloat16:
            self.converted.append(args[0].shape)
        return func(*args, **(kwargs or {}))


def rounded(value):
    """To the eight bits of bfloat16, in fp64."""
    return value.bfloat16().double()


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(*shape, generator=generator) for shape in ((3, 40), (5, 40), (5,)))


@pytest.mark.parametrize("precision", ["high", "medium", "bfloat16"])
def test_attention_on_the_cpu_is_exact(precision):
    with Watch() as watch, matmul_precision(precision):
        x = torch.ones(1, 1, 2, 4)
        output = scaled_dot_product_attention(x, x, value=x)
    assert watch.seen == [(scaled_dot_product_attention, "highest", torch.float32)]
    assert torch.equal(output, x)


def test_attention_on_the_cpu_is_in_the_longest_numbers_it_is_given():
    x = torch.linspace(0, 1, 64).reshape(1, 1, 16, 4)
    short = x.bfloat16()
    expected = scaled_dot_product_attention(x, x, short.float(), is_causal=True)
    with matmul_precision("bfloat16"):
        output = scaled_dot_product_attention(x, x, value=short, is_causal=True)
        assert torch.equal(output, expected)
        assert scaled_dot_product_attention(short, short, short).dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [True, False])
def test_layers_multiply_shorter_numbers_and_add_a_whole_bias(given, bias):
    x, weight, added = given
    added = added if bias else None
    with matmul_precision("bfloat16"):
        output = linear(x, weight, added)
    exact = rounded(x) @ rounded(weight).T
    assert output.dtype == (torch.float32 if bias else torch.bfloat16)
    torch.testing.assert_close(
        output.double(), exact + (0 if added is None else added), rtol=2**-8, atol=0.02
    )
    assert not torch.allclose(output.float(), linear(x, weight, added), rtol=1e-5)


def test_what_a_layer_has_put_out_goes_into_the_next_as_it_is(given):
    x, weight, _ = given
    last = weight.T.contiguous()
    with Watch() as watch, matmul_precision("bfloat16"), torch.no_grad():
        middle = linear(x, weight)
        output = linear(middle.relu(), last) + x
    assert watch.converted.count(middle.shape) == 1  # to itself
    expected = rounded(middle).relu() @ rounded(last).T + x.double()
    torch.testing.assert_close(output.double(), expected, rtol=2**-8, atol=0.1)
    assert output.dtype == torch.float32


def test_a_module_and_named_arguments_are_the_same_as_a_call(given):
    x, weight, bias = given
    layer = nn.Linear(40, 5)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    with matmul_precision("bfloat16"), torch.no_grad():
        assert torch.equal(layer(x), linear(x, weight=weight, bias=bias))


def test_other_products_and_other_numbers_are_left_alone(given):
    x, weight, bias = given
    with matmul_precision("highest"):
        expected = x @ weight.T
    with matmul_precision("bfloat16"):
        assert torch.allclose(x @ weight.T, expected, rtol=1e-5, atol=1e-5)
        assert linear(x.double(), weight.double(), bias.double()).dtype == torch.float64
        assert linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16


def test_gradients_go_through_shorter_products(given):
    x, weight, _ = given
    x.requires_grad_()
    with matmul_precision("bfloat16"):
        (gradient,) = torch.autograd.grad(linear(x, weight).sum(), x)
    exact = rounded(weight).sum(0).expand(3, 40)
    torch.testing.assert_close(gradient.double(), exact, rtol=2**-7, atol=2**-7)


def test_weights_that_few_rows_meet_are_converted_once_until_they_change(given):
    x, weight, _ = given
    with Watch() as watch, matmul_precision("bfloat16"), torch.no_grad():
        first = linear(x, weight)
        assert torch.equal(linear(x, weight), first)
        assert watch.converted.count(weight.shape) == 1
        weight.mul_(2)
        assert torch.equal(linear(x, weight), 2 * first)
        assert watch.converted.count(weight.shape) == 2
        for _ in range(3):
            linear(torch.zeros(FEW + 1, 40), weight)
        assert watch.converted.count(weight.shape) == 5


def test_an_input_of_several_layers_is_converted_once_until_it_changes(given):
    x, weight, _ = given
    with Watch() as watch, matmul_precision("bfloat16"):
        with torch.no_grad():
            first = linear(x, weight)
            linear(x, weight[:2])
            assert watch.converted.count(x.shape) == 1
            x.mul_(2)
            assert torch.equal(linear(x, weight), 2 * first)
            assert watch.converted.count(x.shape) == 2
            linear(x.clone(), weight)
            assert watch.converted.count(x.shape) == 3
        linear(x, weight)
        linear(x, weight)
        assert watch.converted.count(x.shape) == 5
    with matmul_precision("bfloat16"), torch.inference_mode():  # where changes are not counted
        given = torch.ones(1, 4)
        for value in (1.0, 2.0):
            assert linear(given.fill_(value), torch.ones(1, 4)).tolist() == [[4 * value]]


@pytest.mark.parametrize("precision", ["highest", "medium", "bfloat16"])
def test_what_is_multiplied_is_known_inside(precision):
    expected = torch.bfloat16 if precision == "bfloat16" else torch.float32
    with matmul_precision(precision):
        assert module.multiplied() == module.multiplies(precision) == expected
        with matmul_precision("highest"):
            assert module.multiplied() == torch.float32
        assert module.multiplied() == expected
    assert module.multiplied() == torch.float32


def test_the_inner_of_two_precisions_decides(given):
    x, weight, bias = given
    plain = linear(x, weight, bias)
    with matmul_precision("bfloat16"):
        with matmul_precision("highest"):
            assert torch.equal(linear(x, weight, bias), plain)
        assert not torch.equal(linear(x, weight, bias), plain)


def test_nothing_is_held_of_weights_that_are_gone(given):
    x, weight, _ = given
    with matmul_precision("bfloat16"), module._Products() as mode, torch.no_grad():
        linear(x, weight)
        for part in (weight[:2], weight + 1):
            linear(x, part)
        del part
        assert len(mode.held) == 1
        assert mode.held[id(weight)][0]() is weight


def test_a_weight_in_the_place_of_one_that_is_gone_is_converted_anew():
    x = torch.ones(1, 4)
    with matmul_precision("bfloat16"), torch.no_grad():
        for value in range(20):
            assert linear(x, torch.full((2, 4), float(value))).tolist() == [[4.0 * value] * 2]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx2": True}, "medium"),
    ],
)
def test_shorter_numbers_are_taken_where_the_processor_has_instructions(
    monkeypatch, known, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert module.native() == expected
    with Watch() as watch, matmul_precision("auto"):
        linear(torch.ones(1, 4), torch.ones(3, 4))
    ((_, precision, dtype),) = watch.seen
    assert precision == "medium"
    assert dtype == (torch.bfloat16 if expected == "bfloat16" else torch.float32)


def test_on_a_gpu_only_layers_of_fp32_weights_round_what_they_multiply(given):
    x, weight, _ = given
    with Watch() as watch, matmul_precision("high", torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "highest"  # Gram matrices, residuals
        linear(x, weight)
        with module.plain():
            linear(x, weight)
        linear(x.bfloat16(), weight.bfloat16())
    assert [precision for _, precision, _ in watch.seen] == ["high", "highest", "highest"]


@pytest.mark.parametrize("precision", ["highest", "bfloat16"])
def test_the_residual_stream_of_a_bfloat16_model_is_fp32(precision):
    model, ids = tiny("llama"), torch.arange(3, 43)[None]
    short = copy.deepcopy(model).bfloat16()
    alike = copy.deepcopy(short).float()  # the same weights
    with torch.no_grad():
        exact, plain = (each(ids, output_hidden_states=True) for each in (alike, short))
        with matmul_precision(precision):
            wide = short(ids, output_hidden_states=True)
            with module.plain():
                again = short(ids, output_hidden_states=True)
    assert {hidden.dtype for hidden in wide.hidden_states} == {torch.float32}
    assert torch.equal(again.logits, plain.logits)

    def error(output):
        return (output.hidden_states[-1].double() - exact.hidden_states[-1]).abs().mean()

    assert error(wide) < 0.8 * error(plain)


def test_an_encoder_in_bfloat16_computes_with_it():
    model = tiny_encoder("bert").bfloat16().eval()
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        expected = model(ids).logits
        with matmul_precision("highest"):
            got = model(ids).logits
    torch.testing.assert_close(got.float(), expected.float(), rtol=0.1, atol=0.1)


def test_a_pytorch_that_cannot_tell_takes_none(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert module.native() == "medium"


def test_the_precision_before_is_back_after_an_error():
    before = torch.get_float32_matmul_precision()
    try:
        with matmul_precision("bfloat16"):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.get_float32_matmul_precision() == before
    assert torch.equal(
        linear(torch.full((1, 1), 1.001), torch.ones(1, 1)), torch.full((1, 1), 1.001)
    )
