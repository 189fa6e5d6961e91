"""Readings of a GPU, for tests of what is made of them."""

from dataclasses import replace

from numprune_export.measure.gpu.state import GpuState

COOL = GpuState(
    name="NVIDIA H100 80GB HBM3",
    driver_version="580.159.04",
    cuda_version="13.0",
    compute_capability="9.0",
    memory_total_bytes=81559 << 20,
    memory_used_bytes=1 << 30,
    temperature_c=34.0,
    sm_clock_mhz=1980.0,
    memory_clock_mhz=2619.0,
    power_w=115.25,
    reasons=("power cap",),
    persistence=True,
)
QUIET = replace(COOL, reasons=("idle",), thermal_ns=5_000_000, power_ns=1_000_000)
