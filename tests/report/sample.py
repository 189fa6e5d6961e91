"""A report with every kind of measurement, small enough to read."""

from datetime import datetime, timezone

from numprune_export.core.metric import Metric
from numprune_export.measure.environment import Environment
from numprune_export.report.schema import (
    ArtifactSummary,
    Report,
    SiteScores,
    SiteWidth,
    StageFigures,
    measurements,
)
from numprune_export.report.verdict import summarize

ENVIRONMENT = Environment(
    machine="x86_64",
    cpu="Some CPU | with a pipe",
    physical_cores=2,
    usable_cores=2,
    memory_bytes=8 << 30,
    system="Linux 6.1",
    python="3.11.7",
    packages={"torch": "2.13.0", "onnxruntime": "1.31.1"},
    threads=2,
)


def timed(target: str, phase: str, dense: float, pruned: float, low: float, high: float):
    under = {"batch": 1, "threads": 1, "dtype": "float32", "device": "cpu"}
    name, timings = f"latency.{target}.{phase}", {}
    for variant, p50 in (("dense", dense), ("pruned", pruned)):
        for key, value in (("p50_ms", p50), ("p90_ms", p50 * 1.1), ("p99_ms", p50 * 1.2)):
            timings[f"{name}.{variant}.{key}"] = Metric(value, "ms", 20, conditions=under)
        timings[f"{name}.{variant}.cpu_ms"] = Metric(p50, "ms", 20, conditions=under)
        timings[f"{name}.{variant}.tokens_per_s"] = Metric(1000 / p50, "tokens/s", 20)
    ratio = dense / pruned
    timings[f"{name}.speedup"] = Metric(ratio, "ratio", 20, low, high, under)
    timings[f"{name}.cpu_speedup"] = Metric(ratio * 1.01, "ratio", 20, low, high, under)
    for key, value in {
        "speedup_low": low,
        "speedup_high": high,
        "ideal": 1.5,
        "of_ideal": ratio / 1.5,
    }.items():
        timings[f"{name}.{key}"] = Metric(value, "ratio", 20)
    return timings


def metrics() -> dict[str, Metric]:
    return {
        "size.parameters.dense": Metric(134_515_008, "parameters", 1),
        "size.parameters.pruned": Metric(102_400_000, "parameters", 1),
        "size.parameters.ratio": Metric(0.7612, "fraction", 1),
        "size.bytes.dense": Metric(538_060_032, "bytes", 1),
        "size.bytes.pruned": Metric(409_600_000, "bytes", 1),
        "quality.perplexity.onnx": Metric(25.31, "perplexity per token", 8128, 22.0, 29.0),
        "quality.perplexity.dense": Metric(18.2, "perplexity per token", 8128, 16.0, 20.5),
        "quality.perplexity.masked": Metric(60.1, "perplexity per token", 8128, 50.0, 71.0),
        "quality.perplexity.pruned": Metric(25.3, "perplexity per token", 8128, 22.0, 29.0),
        "parity.onnx.max_abs_error": Metric(
            2.1e-5,
            "logit",
            332,
            conditions={"tolerance": 1e-4, "worst": "batch 1, prefill, row 0, position 3"},
        ),
        "parity.onnx.rounding_error": Metric(1.1e-5, "logit", 64),
        "parity.onnx.kl_mean": Metric(1.2e-11, "nats", 332),
        "parity.onnx.top1_agreement": Metric(1.0, "fraction", 332),
        "parity.onnx.greedy_match": Metric(1.0, "fraction", 256),
        **timed("onnx", "prefill", 134.0, 95.0, 1.38, 1.44),
        **timed("onnx", "decode", 13.9, 13.8, 0.97, 1.05),
        **timed("torch", "prefill", 296.0, 213.0, 1.35, 1.42),
        **timed("torch", "decode", 32.1, 26.3, 1.20, 1.24),
        "memory.onnx.dense.peak_bytes": Metric(700 << 20, "bytes", 1),
        "memory.onnx.pruned.peak_bytes": Metric(560 << 20, "bytes", 1),
        "time.calibrate_s": Metric(41.23, "s", 1),
        "time.export_s": Metric(5.0, "s", 1),
    }


def report() -> Report:
    stored = measurements(metrics())
    return Report(
        created=datetime(2026, 11, 22, 5, 30, tzinfo=timezone.utc),
        recipe_name="smollm2-keep80",
        summary=summarize(stored, {}),
        metrics=stored,
        plan=(
            SiteWidth(
                site="layers.0.attention", kept=2, units=3, heads_per_unit=3, kept_units=(0, 2)
            ),
            SiteWidth(site="layers.0.mlp", kept=1280, units=1536),
            SiteWidth(
                site="layers.1.attention", kept=3, units=3, heads_per_unit=3, kept_units=(0, 1, 2)
            ),
            SiteWidth(site="layers.1.mlp", kept=864, units=1536),
        ),
        scores={
            "layers.0.attention": SiteScores(kept=(4, 5, 6, 7, 8, 9, 10), removed=(1,) * 7),
            "layers.0.mlp": SiteScores(
                kept=(0.2, 0.3, 0.5, 1, 2, 5, 50), removed=(0.01, 0.02, 0.05, 0.1, 0.12, 0.15, 0.19)
            ),
            "layers.1.attention": SiteScores(kept=(3, 4, 5, 6, 7, 8, 9), removed=()),
            "layers.1.mlp": SiteScores(
                kept=(0.2, 0.3, 0.5, 1, 2, 5, 50), removed=(0.01, 0.02, 0.05, 0.1, 0.12, 0.15, 0.19)
            ),
        },
        latency_samples={
            name.removesuffix(".p50_ms"): tuple(
                metric.value * (1 + 0.01 * at) for at in range(-5, 15)
            )
            for name, metric in stored.items()
            if name.endswith(".p50_ms")
        },
        stages={
            "calibrate": StageFigures(
                seconds=41.23,
                processor_seconds=80.5,
                host_peak_bytes=3 << 30,
                device_peak_bytes=5 << 30,
                batch=4,
            ),
            "export": StageFigures(seconds=5.0),
        },
        recipe={"version": 1, "keep": 0.8, "targets": {"onnx": {"graph": "gqa"}}},
        environment=ENVIRONMENT,
        artifacts={
            "onnx.dense": ArtifactSummary(
                target="onnx",
                folder="artifacts/onnx/dense",
                entry="model.onnx",
                size_bytes=538_100_000,
                files={"model.onnx": "00", "model.onnx.data": "11"},
                facts={"graph": "gqa", "opset": 20, "inputs": ["input_ids"]},
            )
        },
    )


def encoder() -> Report:
    """Many shapes, several scores, heads that go alone, and a budget."""
    measured = {}
    for score, values in {"accuracy": (0.94, 0.92, 0.941), "exact_match": (0.8, 0.7, 0.79)}.items():
        for stage, value in zip(("dense", "masked", "pruned"), values, strict=True):
            measured[f"quality.{score}.{stage}"] = Metric(
                value, "fraction", 672, value - 0.02, value + 0.01
            )
        measured[f"quality.{score}.onnx"] = measured[f"quality.{score}.pruned"]
    for batch in (1, 8):
        for length in (16, 128):
            ms = 0.3 * batch * length
            measured |= timed("onnx", f"forward.b{batch}.l{length}", ms, ms / 1.8, 1.7, 1.9)
    measured |= {
        "size.parameters.dense": Metric(22_700_000, "parameters", 1),
        "size.parameters.pruned": Metric(17_400_000, "parameters", 1),
        "budget.onnx.b8.l16.limit_ms": Metric(30.0, "ms", 1),
        "budget.onnx.b8.l16.predicted_ms": Metric(29.0, "ms", 1),
        "budget.onnx.b8.l16.predicted_ratio": Metric(
            0.6, "fraction", 1, conditions={"table": "here"}
        ),
        "allocation.divergence.attention_1x": Metric(0.1, "nats", 512),
        "allocation.attention_weight": Metric(1.0, "ratio", 1),
    }
    stored = measurements(measured)
    plan = (
        SiteWidth(
            site="layers.0.attention",
            kept=1,
            units=4,
            heads_per_unit=1,
            kept_units=(3,),
            groups=(2, 2),
        ),
        SiteWidth(site="layers.0.mlp", kept=0, units=64),
        SiteWidth(
            site="layers.1.attention",
            kept=0,
            units=4,
            heads_per_unit=1,
            kept_units=(),
            groups=(2, 2),
        ),
        SiteWidth(site="layers.1.mlp", kept=48, units=64),
    )
    changes = {"metrics": stored, "plan": plan, "scores": {}, "stages": {}, "latency_samples": {}}
    told = {"recipe_name": "minilm-macs50", "summary": summarize(stored, {})}
    return report().model_copy(update={**changes, **told})
