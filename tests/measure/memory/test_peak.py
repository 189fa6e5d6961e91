"""Peak memory of real artifacts, each in a process of its own; about a second per process."""

import json
import subprocess
import sys

import numpy as np
import psutil
import pytest
from tiny import shrink_by_hand, tiny

from numprune_export.core.errors import NumpruneError, RecipeError
from numprune_export.measure.memory.peak import measure_memory
from numprune_export.measure.memory.probe import probe
from numprune_export.measure.memory.resident import current_bytes, peak_bytes
from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx.target import OnnxExporter
from numprune_exporters.runners.decoder import CheckedRunner

WIDE = {"hidden_size": 512, "intermediate_size": 4096, "vocab_size": 512}  # 20 M parameters
RUN = {"threads": 1, "batch": 2, "prompt_tokens": 16, "decode_steps": 3}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    dense = tiny(**WIDE)
    channels = [list(range(500))] * 3
    pruned = shrink_by_hand(tiny(**WIDE), groups=[[0, 1], [2], [3]], channels=channels)
    folders = {}
    for variant, model in (("dense", dense), ("pruned", pruned)):
        folders[variant] = tmp_path_factory.mktemp(variant)
        OnnxExporter().export(
            FAMILIES["llama"].decoder(model), folders[variant], OnnxExporter.settings()
        )
    return folders


def test_each_artifact_is_measured_without_torch(artifacts):
    metrics = measure_memory("onnx", artifacts, **RUN)
    value = {name.removeprefix("memory.onnx."): metric.value for name, metric in metrics.items()}
    assert sorted(value) == [
        "dense.model_bytes",
        "dense.peak_bytes",
        "pruned.model_bytes",
        "pruned.peak_bytes",
    ]
    for variant, folder in artifacts.items():
        weights = (folder / "model.onnx.data").stat().st_size
        assert weights <= value[f"{variant}.model_bytes"] < 4 * weights + (64 << 20)
        assert value[f"{variant}.peak_bytes"] > value[f"{variant}.model_bytes"] + (10 << 20)
        # PyTorch alone would put the process above this
        assert value[f"{variant}.peak_bytes"] < 4 * weights + (150 << 20)
    saved = value["dense.model_bytes"] - value["pruned.model_bytes"]
    lost = [(folder / "model.onnx.data").stat().st_size for folder in artifacts.values()]
    assert saved > 0.5 * (lost[0] - lost[1])
    assert metrics["memory.onnx.dense.peak_bytes"].conditions["prompt_tokens"] == 16


def test_the_probe_imports_no_torch_and_reads_in_order(artifacts):
    code = (
        "import json, sys; from pathlib import Path\n"
        "from numprune_export.measure.memory.probe import probe\n"
        f"found = probe('onnx', Path({str(artifacts['dense'])!r}), **{RUN!r})\n"
        "heavy = sorted({'torch', 'transformers'} & sys.modules.keys())\n"
        "sys.stdout.write(json.dumps([found, heavy]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    readings, heavy = json.loads(result.stdout)
    assert heavy == []
    assert readings["baseline_bytes"] < readings["loaded_bytes"] <= readings["peak_bytes"]


def test_the_probe_runs_the_prompt_and_every_decode_step(artifacts, monkeypatch):
    shapes = []
    for name in ("prefill", "decode"):
        real = getattr(CheckedRunner, name)
        monkeypatch.setattr(
            CheckedRunner,
            name,
            lambda self, tokens, real=real: shapes.append(tokens.shape) or real(self, tokens),
        )
    probe("onnx", artifacts["pruned"], **RUN)
    assert shapes == [(2, 16), (2,), (2,), (2,)]


def test_a_broken_artifact_is_an_error_that_names_it(artifacts, tmp_path):
    (tmp_path / "artifact.json").write_text((artifacts["dense"] / "artifact.json").read_text())
    with pytest.raises(NumpruneError, match=r"measuring the memory of .* failed: .*model.onnx"):
        measure_memory("onnx", {"dense": tmp_path}, **RUN)


def test_an_unknown_target_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="unknown export target `onx`"):
        probe("onx", tmp_path, **RUN)


def test_the_peak_outlives_what_is_freed():
    before = peak_bytes()
    held = []
    while current_bytes() < before + (64 << 20):  # free memory of the process is reused first
        held.append(np.ones(64 << 20, np.uint8))
    assert all(part[-1] == 1 for part in held)
    del held
    assert peak_bytes() >= before + (32 << 20)
    assert current_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
