"""The CUDA runtime as it answers on this machine, which the errors are made of."""

import ctypes
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from numprune_export.core.errors import DeviceError, MissingExtraError
from numprune_exporters.cuda import device
from numprune_exporters.cuda.buffer import DeviceBuffer, PinnedBuffer, view
from numprune_exporters.cuda.stream import Stream

without_gpu = pytest.mark.skipif(device.why_none() is None, reason="this machine has a GPU")


@without_gpu
@pytest.mark.parametrize(
    "use",
    [
        device.require_gpu,
        Stream,
        lambda: DeviceBuffer().reserve(256),
        lambda: PinnedBuffer().reserve(256),
    ],
    ids=["look", "stream", "device memory", "pinned memory"],
)
def test_without_a_gpu_nothing_is_made(use):
    with pytest.raises(DeviceError, match=r"^no CUDA device$") as caught:
        use()
    assert "nvidia-smi" in caught.value.hint
    assert caught.value.exit_code == 8


@without_gpu
def test_why_there_is_none():
    assert device.why_none() == "no CUDA device"


def test_out_of_memory_and_other_errors_are_told_apart():
    codes = device.runtime().cudaError_t
    full = device._device_error("cudaMalloc", codes.cudaErrorMemoryAllocation)
    assert str(full) == "the GPU is out of memory (`cudaMalloc`)"
    assert "batch" in full.hint
    other = device._device_error("cudaGraphLaunch", codes.cudaErrorIllegalAddress)
    assert "illegal memory access" in str(other)
    assert "`cudaGraphLaunch`" in str(other)


def test_what_was_never_made_is_not_given_back():
    for buffer in (DeviceBuffer(), PinnedBuffer()):
        buffer.free()
        assert (buffer.address, buffer.size, buffer.reserve(0)) == (0, 0, 0)


def test_a_view_is_the_memory_itself():
    memory = ctypes.create_string_buffer(64)
    seen = view(ctypes.addressof(memory) + 16, (2, 3), np.int64)
    seen[...] = [[1, 2, 3], [4, 5, 6]]
    assert np.frombuffer(memory, np.int64).tolist() == [0, 0, 1, 2, 3, 4, 5, 6]


def test_missing_bindings_are_an_install_line(monkeypatch):
    for name in [module for module in sys.modules if module.startswith("cuda.bindings")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r"`cuda\.bindings") as caught:
        device.runtime()
    assert caught.value.hint == "pip install 'numprune-export[cuda]'"
    assert "cuda.bindings" in device.why_none()


def test_versions_as_people_write_them():
    assert [device._version(version) for version in (12090, 13000, 13010)] == [
        "12.9",
        "13.0",
        "13.1",
    ]


def test_every_function_that_is_called_by_name_is_in_the_bindings():
    folder = Path(device.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    named = set(re.findall(r'call\(\s*"(cuda\w+)"', text))
    named |= set(re.findall(r"runtime\(\)\.(cuda\w+)", text))
    assert len(named) > 20
    assert [name for name in named if not hasattr(device.runtime(), name)] == []
