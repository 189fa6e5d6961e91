"""Computing with the same weights in another precision: undone exactly, and an honest yardstick."""

import numpy as np
import pytest
import torch
from pretended import DEVICE, pretended
from tiny import tiny

from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.measure.reference.precision import computing_in, decoder_rounding_error


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float64_is_undone_exactly_and_less_wrong_than_float32(dtype):
    model = tiny("llama")
    for parameter in model.parameters():  # as loaded: the rotary frequencies stay in fp32
        parameter.data = parameter.data.to(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frequencies = model.model.rotary_emb.inv_freq.clone()
    tokens = np.random.default_rng(0).integers(3, 97, (2, 9))
    with TorchRunner(model, threads=None) as runner:
        single = runner.prefill(tokens, all_positions=True)
    with computing_in(model, torch.float64) as double, TorchRunner(double, threads=None) as runner:
        assert double.dtype is torch.float64
        exact = runner.prefill(tokens, all_positions=True)
    assert 0 < np.abs(exact - single).max() < (1e-4 if dtype is torch.float32 else 1)
    assert model.dtype is dtype
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.model.rotary_emb.inv_freq.dtype is torch.float32
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)
    with TorchRunner(model, threads=None) as runner:
        assert np.array_equal(runner.prefill(tokens, all_positions=True), single)


def test_rounding_error_is_the_largest_difference_of_fp32_from_fp64_whatever_the_models_dtype():
    tokens = np.random.default_rng(0).integers(3, 97, (2, 9))
    model, wide = tiny("llama"), tiny("llama").double()
    with torch.no_grad():
        exact = wide(torch.from_numpy(tokens)).logits.float()
        single = model(torch.from_numpy(tokens)).logits
    assert decoder_rounding_error(model, tokens) == pytest.approx(
        (exact - single).abs().max().item(), rel=0.5
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    assert 0 < decoder_rounding_error(model, tokens) < 1e-4
    assert model.dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_narrower_dtype_is_undone_exactly_too_and_is_what_loading_in_it_gives(dtype):
    model, narrow = tiny("llama"), tiny("llama")
    for parameter in narrow.parameters():
        parameter.data = parameter.data.to(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tokens = np.random.default_rng(0).integers(3, 97, (2, 9))
    with computing_in(model, dtype) as half, TorchRunner(half, threads=None) as runner:
        got = runner.prefill(tokens, all_positions=True)
    with TorchRunner(narrow, threads=None) as runner:
        assert np.array_equal(runner.prefill(tokens, all_positions=True), got)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    wide, own = decoder_rounding_error(model, tokens), decoder_rounding_error(model, tokens, dtype)
    assert own > 50 * wide


def test_an_error_inside_undoes_it_as_well():
    model = tiny("llama")
    with pytest.raises(RuntimeError, match="stop"), computing_in(model, torch.float64):
        raise RuntimeError("stop")
    assert model.dtype is torch.float32


def test_float64_on_another_device_is_computed_there_and_the_model_stays_as_it_was():
    model, tokens = tiny("llama"), np.random.default_rng(0).integers(3, 97, (2, 9))
    with computing_in(model, torch.float64) as double, TorchRunner(double, threads=None) as runner:
        expected = runner.prefill(tokens, all_positions=True)
    with pretended(), computing_in(model, torch.float64, DEVICE) as there:
        assert (there.dtype, there.device) == (torch.float64, DEVICE)
        with TorchRunner(there, threads=None) as runner:
            got = runner.prefill(tokens, all_positions=True)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")
