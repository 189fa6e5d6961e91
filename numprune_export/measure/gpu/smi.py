"""GPU state from `nvidia-smi`, which ships with the driver: for hosts without NVML bindings."""

from __future__ import annotations

import re
import shutil
import subprocess

from numprune_export.measure.gpu.state import GpuState, reasons_of

MIB = 1 << 20
SECONDS = 20
"""Timeout. Without persistence mode the driver is loaded first, which takes seconds."""

FIELDS = (
    "name",
    "driver_version",
    "compute_cap",
    "memory.total",
    "memory.used",
    "temperature.gpu",
    "clocks.sm",
    "clocks.mem",
    "power.draw",
    "persistence_mode",
    "clocks_throttle_reasons.active",
)


def read(device: str) -> GpuState | None:
    """The current state, or None if `nvidia-smi`, the driver or the device is missing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    output = _run(
        program,
        f"--id={device}",
        f"--query-gpu={','.join(FIELDS)}",
        "--format=csv,noheader,nounits",
    )
    if output is None:
        return None
    return parse(output, header=_run(program) or "")


def parse(answer: str, header: str) -> GpuState | None:
    """Parse the output of `nvidia-smi`.

    Args:
        answer: Its first line holds the values in the order of `FIELDS`.
        header: Output of `nvidia-smi` without arguments, which names the CUDA version.

    Returns:
        None if the line is a message instead of values.
    """
    values = [value.strip() for value in answer.strip().partition("\n")[0].split(",")]
    if len(values) != len(FIELDS):
        return None
    row = dict(zip(FIELDS, values, strict=True))
    cuda = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", header)
    bits = row["clocks_throttle_reasons.active"]
    return GpuState(
        name=row["name"],
        driver_version=row["driver_version"],
        cuda_version=None if cuda is None else cuda[1],
        compute_capability=row["compute_cap"] if _number(row["compute_cap"]) else None,
        memory_total_bytes=_bytes(row["memory.total"]),
        memory_used_bytes=_bytes(row["memory.used"]),
        temperature_c=_number(row["temperature.gpu"]),
        sm_clock_mhz=_number(row["clocks.sm"]),
        memory_clock_mhz=_number(row["clocks.mem"]),
        power_w=_number(row["power.draw"]),
        reasons=reasons_of(int(bits, 16)) if bits.startswith("0x") else (),
        persistence={"Enabled": True, "Disabled": False}.get(row["persistence_mode"]),
    )


def _run(*command: str) -> str | None:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def _number(text: str) -> float | None:
    """None for `[N/A]`, `[Not Supported]` and the like."""
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _bytes(mebibytes: str) -> int | None:
    value = _number(mebibytes)
    return None if value is None else int(value) * MIB
