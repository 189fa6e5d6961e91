"""Memory on a GPU: the arithmetic of the account, and the refusal where there is none."""

import pytest
from tiny import tiny

from numprune_export.core.errors import DeviceError
from numprune_export.measure.memory.peak import device_parts
from numprune_export.measure.memory.probe import probe
from numprune_export.measure.memory.resident import used_bytes
from numprune_export.models.families import FAMILIES
from numprune_exporters.cuda.device import why_none
from numprune_exporters.onnx_cuda.target import OnnxCudaExporter, OnnxCudaSettings

without_gpu = pytest.mark.skipif(why_none() is None, reason="this machine has a GPU")
SEEN = {"device_baseline_bytes": 400, "device_loaded_bytes": 900, "device_run_bytes": 1000}


def test_a_cpu_has_no_device_parts():
    assert device_parts({"baseline_bytes": 1, "peak_bytes": 2, "held": {}}) == {}


def test_what_a_runner_tells_is_kept():
    held = {"weights": 500, "activations": 30, "kv_cache": 60}
    assert device_parts(SEEN | {"held": held}) == {"device": 600, **held}


def test_activations_nobody_tells_are_the_rest():
    parts = device_parts(SEEN | {"held": {"weights": 500, "kv_cache": 60}})
    assert parts == {"device": 600, "weights": 500, "activations": 40, "kv_cache": 60}
    parts = device_parts(SEEN | {"held": {"weights": 700, "kv_cache": 60}})
    assert parts["activations"] == 0  # the device was shared, or the count is not exact


def test_a_runner_that_tells_nothing_leaves_the_whole():
    assert device_parts(SEEN | {"held": {}}) == {"device": 600}


@without_gpu
def test_without_a_gpu_its_memory_cannot_be_read():
    with pytest.raises(DeviceError, match="the GPU's memory cannot be read"):
        used_bytes()


@without_gpu
def test_a_target_on_the_gpu_is_not_measured_without_one(tmp_path):
    OnnxCudaExporter().export(FAMILIES["llama"].decoder(tiny()), tmp_path, OnnxCudaSettings())
    with pytest.raises(DeviceError):
        probe("onnx-cuda", tmp_path, threads=1, batch=1, prompt_tokens=4, decode_steps=1)
