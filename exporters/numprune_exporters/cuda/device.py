"""Calls into the CUDA runtime, checked, and what is known of the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import DeviceError, MissingExtraError
from numprune_export.core.optional import require

_NOTHING_THERE = ("cudaErrorNoDevice", "cudaErrorInsufficientDriver")
"""The runtime's two answers on a machine without a GPU: with a driver, and without one."""


@dataclass(frozen=True)
class Gpu:
    """The device that everything here runs on: the first one that is visible."""

    name: str
    compute_capability: str
    """`major.minor`, for example `9.0`."""
    memory_bytes: int
    driver_cuda: str
    """The newest CUDA version that the driver speaks."""


def runtime() -> Any:
    """The bindings' runtime module.

    Raises:
        MissingExtraError: cuda-bindings is not installed.
    """
    return require("cuda.bindings.runtime", extra="cuda")


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime; its one result, or None if it has none.

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
    """The device, found without allocating anything on it.

    Raises:
        DeviceError: there is none, or its driver is older than the installed bindings.
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
    """Why nothing can run on a GPU here, or None if it can."""
    try:
        require_gpu()
    except (DeviceError, MissingExtraError) as error:
        return str(error)
    return None


def _device_error(name: str, error: Any) -> DeviceError:
    if error.name in _NOTHING_THERE:
        return _no_device()
    if error.name == "cudaErrorMemoryAllocation":
        return DeviceError(
            f"the GPU is out of memory (`{name}`)",
            hint="use a smaller batch or capacity, or free memory that others hold on this GPU",
        )
    _, text = runtime().cudaGetErrorString(error)
    return DeviceError(
        f"`{name}` failed on the GPU: {text.decode()} ({error.name})",
        hint="run again; if it stays, check the GPU with `nvidia-smi`",
    )


def _no_device() -> DeviceError:
    _, driver = runtime().cudaDriverGetVersion()
    _, needed = runtime().cudaRuntimeGetVersion()
    # Without any driver its version is 0, and the runtime says `insufficient driver` all the same.
    if driver and driver < needed:
        return DeviceError(
            f"the NVIDIA driver speaks CUDA {_version(driver)}, CUDA {_version(needed)} is needed",
            hint=f"update the driver, or: pip install 'cuda-bindings=={driver // 1000}.*'",
        )
    return DeviceError(
        "no CUDA device", hint="run on a machine with an NVIDIA GPU and its driver (`nvidia-smi`)"
    )


def _version(number: int) -> str:
    """CUDA writes 12.9 as 12090."""
    return f"{number // 1000}.{number % 1000 // 10}"
