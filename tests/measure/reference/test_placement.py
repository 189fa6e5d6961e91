"""A copy in another precision computes as the model would, and the original does not change."""

import numpy as np
import pytest
import torch
from tiny import MODEL_TYPES, uneven

from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.device import placed

TOKENS = np.random.default_rng(0).integers(3, 97, (2, 9))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_copy_computes_in_its_dtype_and_shares_nothing(model_type):
    model = uneven(model_type, tie_word_embeddings=True)
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = placed(model, "cpu", torch.float64)
    assert twin.dtype is torch.float64
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    assert twin.model.rotary_emb.inv_freq.dtype is torch.float32
    own = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    assert own.isdisjoint(tensor.data_ptr() for tensor in (*twin.parameters(), *twin.buffers()))
    with TorchRunner(model, threads=1) as single, TorchRunner(twin, threads=1) as double:
        np.testing.assert_allclose(single.prefill(TOKENS), double.prefill(TOKENS), atol=1e-4)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_half_precision_is_that_of_a_model_loaded_so():
    model = uneven()
    twin = placed(model, "cpu", torch.bfloat16)
    assert {parameter.dtype for parameter in twin.parameters()} == {torch.bfloat16}
    for mine, given in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, given.bfloat16())


def test_a_copy_in_the_same_dtype_is_still_a_copy():
    model = uneven()
    twin = placed(model, "cpu", torch.float32)
    for mine, given in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, given)
        assert mine.data_ptr() != given.data_ptr()


@pytest.mark.gpu
def test_a_model_on_the_gpu_answers_as_on_the_cpu_and_waits_for_nothing_but_its_tokens():
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    model = uneven()
    twin = placed(model, "cuda", torch.float32)
    assert {tensor.device.type for tensor in (*twin.parameters(), *twin.buffers())} == {"cuda"}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    with TorchRunner(model, threads=1) as host, TorchRunner(twin, threads=None) as device:
        for lengths in (np.array([9, 4]), None):
            expected, got = (runner.prefill(TOKENS, lengths) for runner in (host, device))
            np.testing.assert_allclose(got, expected, atol=1e-3)
            for step in range(3):
                np.testing.assert_allclose(
                    device.decode(TOKENS[:, step]), host.decode(TOKENS[:, step]), atol=1e-3
                )
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with pytest.warns(UserWarning, match="called a synchronizing CUDA operation") as told:
                device.decode(TOKENS[:, 3])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(told) <= 2  # tokens over, logits back
