"""The state of a GPU: what the driver says, what becomes of it, and what a reader is told."""

from dataclasses import replace

import pytest
from gpu_sample import COOL, QUIET

from numprune_export.measure.gpu import nvml as gpu_nvml
from numprune_export.measure.gpu import read as gpu
from numprune_export.measure.gpu import smi as gpu_smi
from numprune_export.measure.gpu.state import REASONS, conditions, metrics, reasons_of, warnings

# The columns of gpu_smi.FIELDS, in the form that the program's manual describes
ANSWER = (
    "NVIDIA H100 80GB HBM3, 580.159.04, 9.0, 81559, 1024, 34, 1980, 2619, 115.25, Enabled,"
    " 0x0000000000000004\n"
)
HEADER = "| NVIDIA-SMI 580.159.04   Driver Version: 580.159.04   CUDA Version: 13.0     |"


def test_the_answer_of_nvidia_smi_is_read_with_its_units():
    assert gpu_smi.parse(ANSWER, HEADER) == COOL
    assert COOL.memory_free_bytes == (81559 << 20) - (1 << 30)


def test_what_a_card_does_not_tell_is_none_and_not_zero():
    line = (
        "Tesla T4, 470.57.02, [N/A], [N/A], [N/A], [Not Supported], N/A, 5000, [N/A], [N/A], [N/A]"
    )
    state = gpu_smi.parse(line, "no version on this page")
    assert state.name == "Tesla T4"
    assert state.memory_clock_mhz == 5000
    assert (state.reasons, state.persistence, state.cuda_version) == ((), None, None)
    assert (state.temperature_c, state.sm_clock_mhz, state.power_w) == (None, None, None)
    assert (state.memory_total_bytes, state.memory_free_bytes) == (None, None)
    assert state.compute_capability is None


@pytest.mark.parametrize("text", ["", "No devices were found\n", "NVIDIA-SMI has failed, sorry\n"])
def test_a_message_in_place_of_values_is_no_gpu(text):
    assert gpu_smi.parse(text, HEADER) is None


@pytest.mark.parametrize("body", ["exit 9", "echo No devices were found"])
def test_a_driver_that_fails_is_no_gpu(body, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_smi.read("0") is None


def test_without_the_program_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_smi.read("0") is None


@pytest.mark.parametrize(
    ("allowed", "device"),
    [("", None), ("-1", None), ("3,1", "3"), (" GPU-4a1f ,0", "GPU-4a1f"), ("MIG-1", "MIG-1")],
)
def test_the_device_is_the_first_that_cuda_may_use(allowed, device, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert gpu.visible() == device
    if device is None:
        assert gpu.read() is None


def test_all_devices_are_visible_where_nothing_is_said(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.visible() == "0"


def test_nvml_knows_no_device_that_cannot_be():
    pytest.importorskip("pynvml")
    assert gpu_nvml.read("GPU-00000000-0000-0000-0000-000000000000") is None


def test_our_names_of_the_reasons_are_nvmls_bits():
    nvml = pytest.importorskip("pynvml")
    bits = {
        value
        for name, value in vars(nvml).items()
        if name.startswith("nvmlClocksEventReason") and name[21:] not in ("None", "All")
    }
    assert set(REASONS) == bits
    assert reasons_of(nvml.nvmlClocksEventReasonSwThermalSlowdown) == ("thermal slowdown",)
    assert reasons_of(nvml.nvmlClocksEventReasonSwPowerCap) == ("power cap",)
    assert reasons_of(nvml.nvmlClocksEventReasonNone) == ()


def test_both_readings_become_metrics_with_the_driver_beside_them():
    after = replace(QUIET, temperature_c=61.0, memory_clock_mhz=None, power_ns=26_000_000)
    readings = metrics(QUIET, after)
    assert readings["gpu.before.temperature_c"].value == 34.0
    assert readings["gpu.after.temperature_c"].value == 61.0
    assert readings["gpu.before.memory_clock_mhz"].unit == "MHz"
    assert "gpu.after.memory_clock_mhz" not in readings
    assert readings["gpu.throttled.power_ms"].value == 25.0
    assert readings["gpu.throttled.thermal_ms"].value == 0.0
    under = readings["gpu.before.power_w"].conditions
    assert under == {
        "gpu": "NVIDIA H100 80GB HBM3",
        "driver": "580.159.04",
        "driver_cuda": "13.0",
        "reasons": "idle",
    }
    assert "driver_cuda" not in conditions(replace(QUIET, cuda_version=None))


def test_a_quiet_card_raises_no_doubt():
    assert warnings(QUIET, replace(QUIET, temperature_c=84.0)) == ()
    assert (
        warnings(replace(QUIET, reasons=()), replace(QUIET, reasons=("application clocks",))) == ()
    )


def test_a_card_that_was_held_down_is_named_with_the_cause():
    (said,) = warnings(QUIET, replace(QUIET, thermal_ns=1_505_000_000))
    assert "heat for 1500 ms" in said
    (said,) = warnings(QUIET, replace(QUIET, power_ns=3_000_000))
    assert "power cap for 2 ms" in said
    (said,) = warnings(QUIET, replace(QUIET, reasons=("idle", "thermal slowdown")))
    assert said.endswith("after the benchmark: thermal slowdown")
    (said,) = warnings(replace(QUIET, reasons=("power brake",)), QUIET)
    assert said.endswith("before the benchmark: power brake")
    (said,) = warnings(QUIET, replace(QUIET, temperature_c=85.0))
    assert "85 °C" in said


@pytest.mark.gpu
def test_nvml_and_nvidia_smi_agree_on_a_real_gpu():
    pytest.importorskip("pynvml")
    device = gpu.visible()
    by_library, by_program = gpu_nvml.read(device), gpu_smi.read(device)
    assert by_library is not None
    if by_program is None:
        pytest.skip("no nvidia-smi beside the driver")
    for key in ("name", "driver_version", "cuda_version", "compute_capability"):
        assert getattr(by_library, key) == getattr(by_program, key)
    assert by_library.memory_total_bytes == pytest.approx(by_program.memory_total_bytes, rel=0.01)
    assert by_library.temperature_c == pytest.approx(by_program.temperature_c, abs=15)
