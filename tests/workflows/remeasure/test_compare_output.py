"""The table of a comparison, from numbers that are given."""

import json
from datetime import datetime, timezone

import pytest
from report.sample import ENVIRONMENT

from numprune_export.core.metric import Metric
from numprune_export.report.schema import measurements
from numprune_export.workflows.remeasure.compare_output import Compared, Side, render, to_json

UNDER = {"threads": 2}


def timed(key, p50):
    at = f"latency.{key}.decode"
    return {
        f"{at}.p50_ms": Metric(p50, "ms", 20, conditions=UNDER),
        f"{at}.p90_ms": Metric(p50 + 1, "ms", 20),
        f"{at}.p99_ms": Metric(p50 + 2, "ms", 20),
        f"{at}.cpu_ms": Metric(p50 + 3, "ms", 20),
        f"{at}.tokens_per_s": Metric(1000 / p50, "tokens/s", 20),
    }


@pytest.fixture
def comparison():
    metrics = {
        **timed("A", 10.0),
        **timed("B", 5.0),
        **timed("C", 9.5),
        "latency.B.decode.speedup": Metric(2.0, "ratio", 20, 1.8, 2.2),
        "latency.C.decode.speedup": Metric(1.05, "ratio", 20, 0.9, 1.2),
        "quality.perplexity.A": Metric(20.0, "perplexity", 64, 18.0, 22.0),
        "quality.perplexity.B": Metric(21.0, "perplexity", 64),
        "memory.A.peak_bytes": Metric(3 << 20, "bytes", 1),
    }
    sizes = {"A": 2048, "B": 1024, "C": 3072}
    return Compared(
        created=datetime(2026, 1, 1, tzinfo=timezone.utc),
        sides=tuple(
            Side(key=key, label=f"{key.lower()}/model", what="artifact of `onnx`", size_bytes=size)
            for key, size in sizes.items()
        ),
        metrics=measurements(metrics),
        notes=("`c/model` has no tokenizer.",),
        environment=ENVIRONMENT,
    )


def cells(text):
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_text_sources_have_rows_of_their_own(comparison):
    ratio = {"A": 1.0, "B": 1.25}
    named = {
        f"quality.perplexity.{source}.{side}": Metric(8 * ratio[side], "perplexity", 64)
        for source in ("news", "code")
        for side in ratio
    }
    named |= {
        f"quality.perplexity_ratio.{name}.B": Metric(
            1.25, "ratio", 64, 1.2, 1.3, {"worst": "code", "sources": 2}
        )
        for name in ("news", "code", "mean", "worst")
    }
    sides = comparison.sides[:2]
    table = cells(
        render(comparison.model_copy(update={"metrics": measurements(named), "sides": sides}))
    )
    assert table["A"] == ["2.0 KiB", "1.00x"]
    assert table["perplexity on"] == ["A", "B", "B of A"]
    assert table["news"] == table["code"] == ["8", "10", "1.250x (1.200 to 1.300)"]
    assert table["geometric mean"] == table["worst (code)"] == ["-", "-", "1.250x (1.200 to 1.300)"]


def test_sizes_and_scores_stand_beside_the_first(comparison):
    table = cells(render(comparison))
    assert table["A"] == ["2.0 KiB", "1.00x", "20 (18 to 22)", "3.0 MiB"]
    assert table["B"] == ["1.0 KiB", "0.50x", "21", "-"]
    assert table["C"] == ["3.0 KiB", "1.50x", "-", "-"]


def test_times_and_how_sure_a_ratio_is(comparison):
    table = cells(render(comparison))
    assert table["decode, A"] == ["10", "11", "12", "13", "100", "-"]
    assert table["decode, B"][-1] == "2.00x (1.80 to 2.20)"
    assert table["decode, C"][-1] == "1.05x (0.90 to 1.20, not significant)"


def test_names_conditions_and_notes_are_told(comparison):
    text = render(comparison)
    assert text.startswith("A  a/model: artifact of `onnx`\nB  b/model")
    assert "- decode: 20 interleaved samples, threads 2" in text
    assert text.endswith("note: `c/model` has no tokenizer.")
    assert "peak memory" in text
    rest = {name: metric for name, metric in comparison.metrics.items() if "memory" not in name}
    assert "peak memory" not in render(comparison.model_copy(update={"metrics": rest, "notes": ()}))


def test_the_json_is_read_back_whole(comparison):
    assert Compared.model_validate_json(to_json(comparison)) == comparison
    assert json.loads(to_json(comparison))["format_version"] == 1
