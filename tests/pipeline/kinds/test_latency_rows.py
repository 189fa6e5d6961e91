"""PyTorch's rows: which there are, on what, and that they compute."""

import numpy as np
import pytest
import torch
from tiny import tiny, uneven

from numprune_export.core.errors import DeviceError
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.pipeline.kinds.latency_rows import reference_rows

TOKENS = np.random.default_rng(0).integers(3, 97, (2, 9))


def logits(model):
    with TorchRunner(model, threads=1) as runner:
        return runner.prefill(TOKENS)


def test_on_the_cpu_there_is_one_row_of_the_models_themselves():
    dense, pruned = tiny(), uneven()
    with reference_rows(dense, pruned, device="cpu", capacity=16, threads=1) as rows:
        assert list(rows) == ["torch"]
        pair = rows["torch"].pair
        np.testing.assert_array_equal(pair.dense.prefill(TOKENS), logits(dense))
        np.testing.assert_array_equal(pair.pruned.prefill(TOKENS), logits(pruned))
        assert rows["torch"].conditions == {
            "threads": 1,
            "device": "cpu",
            "dtype": "float32",
            "runtime": f"torch {torch.__version__}",
        }


def test_rows_take_the_targets_precision_and_leave_the_models_theirs():
    dense, pruned = tiny(), uneven()
    half = torch.bfloat16
    with reference_rows(dense, pruned, device="cpu", dtype=half, capacity=16, threads=1) as rows:
        got = rows["torch"].pair.pruned.prefill(TOKENS)
        assert rows["torch"].conditions["dtype"] == "bfloat16"
    assert pruned.dtype is torch.float32
    for parameter in pruned.parameters():  # not the rotary frequencies, which stay in fp32
        parameter.data = parameter.data.to(half)
    np.testing.assert_array_equal(got, logits(pruned))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_its_rows_are_refused():
    with (
        pytest.raises(DeviceError, match="has no CUDA device"),
        reference_rows(tiny(), uneven(), device="cuda", capacity=16, threads=1),
    ):
        pass


@pytest.mark.gpu
@pytest.mark.slow
def test_on_a_gpu_eager_and_compiled_rows_agree_with_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    dense, pruned = tiny(), uneven()
    with reference_rows(dense, pruned, device="cuda", capacity=16, threads=1) as rows:
        assert list(rows) == ["torch-cuda", "torch-cuda-compiled"]
        for row in rows.values():
            assert row.conditions["device"] == "cuda"
            for runner, model in ((row.pair.dense, dense), (row.pair.pruned, pruned)):
                with TorchRunner(model, threads=1) as host:
                    np.testing.assert_allclose(
                        runner.prefill(TOKENS), host.prefill(TOKENS), atol=1e-3
                    )
                    for step in range(4):
                        np.testing.assert_allclose(
                            runner.decode(TOKENS[:, step]), host.decode(TOKENS[:, step]), atol=1e-3
                        )
