"""Checked calls of the CUDA runtime, and properties of the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import DeviceError, MissingExtraError
from numprune_export.core.optional import require

_NO_GPU = ("cudaErrorNoDevice", "cudaErrorInsufficientDriver")
"""Errors of the runtime on a machine without a GPU: with a driver, and without one."""


@dataclass(frozen=True)
class Gpu:
    """The device in use: the first visible one."""

    name: str
    compute_capability: str
    """`major.minor`, for example `9.0`."""
    memory_bytes: int
    driver_cuda: str
    """The newest CUDA version that the driver supports."""


def runtime() -> Any:
    """The bindings' runtime module.

    Raises:
        MissingExtraError: cuda-bindings is not installed.
    """
    return require("cuda.bindings.runtime", extra="cuda")


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime.

    Returns:
        Its result; a tuple of several results; None without a result.

    Raises:
        DeviceError: the call failed.
        MissingExtraError: cuda-bindings is not installed.
    """
    error, *results = getattr(runtime(), name)(*arguments)
    if int(error):
        raise _device_error(name, error)
    if len(results) > 1:
        return tuple(results)
    return results[0] if results else None


def require_gpu() -> Gpu:
    """The device. Allocates no memory on it.

    Raises:
        DeviceError: there is no device, or its driver is older than the installed bindings.
        MissingExtraError: cuda-bindings is not installed.
    """
    call("cudaGetDeviceCount")
    properties = call("cudaGetDeviceProperties", 0)
    return Gpu(
        properties.name.split(b"\0")[0].decode(),
        f"{properties.major}.{properties.minor}",
        int(properties.totalGlobalMem),
        _version(call("cudaDriverGetVersion")),
    )


def why_none() -> str | None:
    """The reason why no GPU can be used here; None: one can."""
    try:
        require_gpu()
    except (DeviceError, MissingExtraError) as error:
        return str(error)
    return None


def _device_error(name: str, error: Any) -> DeviceError:
    if error.name in _NO_GPU:
        return _no_device()
    if error.name == "cudaErrorMemoryAllocation":
        return DeviceError(
            f"the GPU is out of memory (`{name}`)",
            hint="use a smaller batch or capacity, or free GPU memory of other processes",
        )
    _, text = runtime().cudaGetErrorString(error)
    return DeviceError(
        f"`{name}` failed on the GPU: {text.decode()} ({error.name})",
        hint="run again; if it fails again, check the GPU with `nvidia-smi`",
    )


def _no_device() -> DeviceError:
    _, driver = runtime().cudaDriverGetVersion()
    _, needed = runtime().cudaRuntimeGetVersion()
    # Without a driver the version is 0, and the runtime also reports `insufficient driver`.
    if driver and driver < needed:
        return DeviceError(
            f"the NVIDIA driver supports CUDA {_version(driver)}; CUDA {_version(needed)} needed",
            hint=f"update the driver, or: pip install 'cuda-bindings=={driver // 1000}.*'",
        )
    return DeviceError(
        "no CUDA device", hint="run on a machine with an NVIDIA GPU and its driver (`nvidia-smi`)"
    )


def _version(number: int) -> str:
    """Version text of CUDA's number: 12090 is 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"
