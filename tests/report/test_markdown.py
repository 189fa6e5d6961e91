"""The page, reviewed as text, and what must hold of it whatever it says."""

from dataclasses import replace
from pathlib import Path

import pytest
from report import sample

from numprune_export.core.metric import Metric
from numprune_export.measure.gpu.state import GpuState, warnings
from numprune_export.measure.gpu.state import metrics as metrics_of
from numprune_export.report.markdown import render
from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import count, measured, number, percent, size
from numprune_export.report.tables.table import table
from numprune_export.report.verdict import summarize

GOLDEN = Path(__file__).with_name("report.md")


def test_the_page_is_the_reviewed_one():
    assert render(sample.report()) == GOLDEN.read_text()


def test_the_verdict_comes_first():
    lines = render(sample.report()).splitlines()
    assert lines[0] == "# Pruning report: smollm2-keep80"
    assert lines[2] == f"**{sample.report().summary}**"


def test_what_was_built_but_not_run_is_said_with_its_reason():
    page = render(sample.report().model_copy(update={"not_run": {"trt-rtx": "no CUDA device"}}))
    assert "## Not run here\n\n- `trt-rtx`: no CUDA device\n" in page
    verdict = summarize({}, {"trt-rtx": "no CUDA device"})
    assert "trt-rtx was built but not run here: no CUDA device" in verdict


def test_the_gpu_and_what_held_it_down_are_told():
    cool = GpuState("GPU A", "580.1", "13.0", "9.0", 80, 10, 34.0, 1980.0, 2619.0, 70.0, (), True)
    warm = replace(cool, temperature_c=88.0, sm_clock_mhz=1400.0, reasons=("thermal slowdown",))
    metrics = {name: Measurement.of(metric) for name, metric in metrics_of(cool, warm).items()}
    page = render(
        sample.report().model_copy(update={"metrics": metrics, "warnings": warnings(cool, warm)})
    )
    assert "| temperature  |    34 °C |    88 °C |" in page
    assert "gpu GPU A, driver 580.1, driver_cuda 13.0" in page
    assert "## Warnings\n\n- the GPU's clocks were held down after the benchmark: thermal" in page


def test_the_spread_of_builds_is_told_beside_the_latencies():
    metrics = dict(sample.report().metrics)
    spread = Metric(0.034, "fraction", 20, conditions={"builds": 3})
    metrics["latency.onnx.decode.pruned.rebuild_spread"] = Measurement.of(spread)
    page = render(sample.report().model_copy(update={"metrics": metrics}))
    assert "- decode on onnx: the slowest of 3 builds takes 3.4 % longer\n" in page


def test_a_run_that_measured_nothing_still_has_a_page():
    empty = sample.report().model_copy(
        update={"metrics": {}, "plan": (), "artifacts": {}, "stages": {}}
    )
    page = render(empty)
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Environment",
        "## Recipe",
    ]


@pytest.mark.parametrize(("device", "told"), [("cpu", True), ("cuda", False)])
def test_a_busy_machine_is_told_where_the_processor_is_what_is_measured(device, told):
    metrics = dict(sample.report().metrics)
    name = "latency.onnx.decode.dense"
    metrics[f"{name}.cpu_ms"] = metrics[f"{name}.cpu_ms"].model_copy(update={"value": 9.0})
    under = {"conditions": {"device": device}}
    metrics[f"{name}.p50_ms"] = metrics[f"{name}.p50_ms"].model_copy(update=under)
    page = render(sample.report().model_copy(update={"metrics": metrics}))
    assert ("busy with other work during decode on onnx:" in page) is told


def test_rows_of_every_table_have_the_columns_of_their_header():
    blocks, block = [], []
    for line in [*render(sample.report()).splitlines(), ""]:
        if line.startswith("|"):
            block.append(line.replace("\\|", "").count("|"))
        elif block:
            blocks.append(block)
            block = []
    assert len(blocks) == 9
    assert all(len(set(columns)) == 1 for columns in blocks)


def test_cells_cannot_break_a_table():
    assert table(["a", "b"], [["x|y", "1"]]) == ("| a    |   b |\n| ---- | --: |\n| x\\|y |   1 |")


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (count(134_515_008), "134.5 M"),
        (count(7.24e9), "7.2 B"),
        (count(15_000), "15.0 k"),
        (count(960), "960"),
        (size(538_060_032), "513.1 MiB"),
        (size(3 << 30), "3.0 GiB"),
        (size(512), "512 B"),
        (number(18.23456), "18.23"),
        (number(1.23e-6), "1.230e-06"),
        (number(0.0), "0"),
        (number(float("inf")), "inf"),
        (number(123456.7), "123457"),
        (percent(0.2388), "23.9 %"),
        (measured(1.5, "ratio"), "1.50x"),
        (measured(2048, "bytes"), "2.0 KiB"),
        (measured(13.91, "ms"), "13.91 ms"),
    ],
)
def test_quantities_read_with_their_unit(got, expected):
    assert got == expected
