"""A GPU's state by `nvidia-smi`, which comes with the driver: for hosts without NVML's bindings."""

from __future__ import annotations

import re
import shutil
import subprocess

from numprune_export.measure.gpu.state import GpuState, reasons_of

MIB = 1 << 20
SECONDS = 20
"""Without persistence the driver is loaded first, which takes some of these."""

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
    """The state now, or None where there is no `nvidia-smi`, no driver or no such device."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    answer = _run(
        program,
        f"--id={device}",
        f"--query-gpu={','.join(FIELDS)}",
        "--format=csv,noheader,nounits",
    )
    if answer is None:
        return None
    return parse(answer, header=_run(program) or "")


def parse(answer: str, header: str) -> GpuState | None:
    """One line of values in the order of `FIELDS`; the CUDA version stands in the plain page.

    None where the line is another: a message instead of values.
    """
    values = [one.strip() for one in answer.strip().partition("\n")[0].split(",")]
    if len(values) != len(FIELDS):
        return None
    told = dict(zip(FIELDS, values, strict=True))
    cuda = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", header)
    bits = told["clocks_throttle_reasons.active"]
    return GpuState(
        name=told["name"],
        driver_version=told["driver_version"],
        cuda_version=None if cuda is None else cuda[1],
        compute_capability=told["compute_cap"] if _number(told["compute_cap"]) else None,
        memory_total_bytes=_bytes(told["memory.total"]),
        memory_used_bytes=_bytes(told["memory.used"]),
        temperature_c=_number(told["temperature.gpu"]),
        sm_clock_mhz=_number(told["clocks.sm"]),
        memory_clock_mhz=_number(told["clocks.mem"]),
        power_w=_number(told["power.draw"]),
        reasons=reasons_of(int(bits, 16)) if bits.startswith("0x") else (),
        persistence={"Enabled": True, "Disabled": False}.get(told["persistence_mode"]),
    )


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _number(text: str) -> float | None:
    """`[N/A]`, `[Not Supported]` and the like are None."""
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _bytes(mebibytes: str) -> int | None:
    value = _number(mebibytes)
    return None if value is None else int(value) * MIB
