"""Timing exported decoders: rows of targets and of PyTorch, further builds, sessions."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import tiny, uneven

from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.models.families import FAMILIES
from numprune_export.pipeline.exported import Exported, Target
from numprune_export.pipeline.kinds.causal_lm_latency import measure_latency
from numprune_export.recipe import Benchmark
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

FAMILY = FAMILIES["llama"]
MODELS = {"dense": tiny(), "pruned": uneven()}
SETTINGS = Benchmark(
    prefill=6, past=6, decode_steps=2, samples=6, warmup=0, sessions=2, threads=1, reference=True
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Both models as ONNX; the pruned one as if it had been built twice."""
    exporter, artifacts = OnnxExporter(), {}
    for variant, model in MODELS.items():
        folder = tmp_path_factory.mktemp(variant)
        artifacts[variant] = exporter.export(FAMILY.decoder(model), folder, OnnxSettings())
    pruned = artifacts["pruned"]
    again = "again.onnx"
    (pruned.folder / again).write_bytes((pruned.folder / pruned.entry).read_bytes())
    artifacts["pruned"] = replace(
        pruned,
        files={**pruned.files, again: pruned.files[pruned.entry]},
        facts={**pruned.facts, "builds": [pruned.entry, again]},
    )
    return Exported(Target(exporter, OnnxSettings()), artifacts, ())


def measured(exported, settings=SETTINGS):
    tokens = np.random.default_rng(0).integers(3, 97, (1, 6))
    work = DecoderWorkload(tokens, 6, 6, 2)
    models = SimpleNamespace(**MODELS, get=MODELS.__getitem__)
    steps = []
    observer = SimpleNamespace(expect=steps.append, advance=lambda _: None)
    latency = measure_latency(settings, FAMILY, models, exported, work, observer)
    assert steps == [2 * 2 * 3]  # phases, sessions, rounds of each
    return latency.metrics


def test_a_target_and_pytorch_are_timed_and_further_builds_beside_them(exported):
    metrics = measured([exported])
    rows = {name.split(".")[1] for name in metrics}
    assert rows == {"onnx", "torch"}
    for phase in ("prefill", "decode"):
        spread = metrics[f"latency.onnx.{phase}.pruned.rebuild_spread"]
        assert spread.conditions["builds"] == 2
        assert spread.value >= 0
        assert f"latency.torch.{phase}.pruned.rebuild_spread" not in metrics
        assert metrics[f"latency.onnx.{phase}.ideal"].value > 1


def test_only_artifacts_are_opened_anew_and_say_what_they_are(exported):
    metrics = measured([exported])
    onnx, torch = (metrics[f"latency.{row}.decode.speedup"].conditions for row in ("onnx", "torch"))
    assert onnx["sessions"] == 2
    assert (onnx["device"], onnx["dtype"], onnx["graph"]) == ("cpu", "float32", "gqa")
    assert onnx["threads"] == torch["threads"] == 1
    assert "sessions" not in torch
    assert torch["runtime"].startswith("torch")


def test_pytorch_is_left_out_where_a_target_is_there(exported):
    without = SETTINGS.model_copy(update={"reference": False})
    assert not any(".torch." in name for name in measured([exported], without))
    assert all(".torch." in name for name in measured([], without))
