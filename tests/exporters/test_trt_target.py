"""The targets `trt` and `trt-rtx` as the pipeline sees them, on a machine without a GPU."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from shaped import shaped
from tiny import uneven

from numprune_export.core.errors import DeviceError, InputError, RecipeError, UnsupportedModelError
from numprune_export.export import targets
from numprune_export.export.exporter import Exporter, GraphBacked
from numprune_export.models.families import FAMILIES
from numprune_exporters.cuda.device import Gpu, why_none
from numprune_exporters.onnx.target import OnnxSettings
from numprune_exporters.trt import placement, toolkit
from numprune_exporters.trt.build.engines import timing_cache_path
from numprune_exporters.trt.settings import TrtRtxSettings, TrtSettings
from numprune_exporters.trt.target import TrtExporter, TrtRtxExporter

needs_no_gpu = pytest.mark.skipif(why_none() is None, reason="a GPU is here: nothing is refused")


@pytest.fixture
def built(tmp_path):
    def run(decoder, **content):
        settings = TrtRtxSettings.model_validate(content)
        return TrtRtxExporter().export(decoder, tmp_path, settings)

    return run


def decoder_of(model):
    return FAMILIES[model.config.model_type].decoder(model)


def forward(model, tokens):
    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.float().numpy()


@pytest.mark.parametrize("name", ["trt", "trt-rtx"])
def test_targets_are_found_and_follow_the_contract(name):
    exporter: Exporter = targets.find(name)
    assert (exporter.name, exporter.device) == (name, "cuda")
    assert isinstance(exporter, GraphBacked)
    assert exporter.settings().dtype == "float16"


@needs_no_gpu
def test_ahead_of_time_builds_here_and_runs_elsewhere():
    availability = TrtRtxExporter().availability()
    assert (availability.ready, availability.cannot_run) == (True, "no CUDA device")
    assert availability.detail == "TensorRT-RTX 1.7.1.116"


def run_isolated(code, tmp_path, module=None):
    """Run in a process of its own whose `tensorrt` is `module`, or is not there at all."""
    place = tmp_path / "site"
    place.mkdir()
    if module is not None:
        (place / "tensorrt.py").write_text(module)
    hide = "sys.modules['tensorrt'] = None;" if module is None else ""
    whole = f"import sys; sys.path.insert(0, {str(place)!r}); {hide}{code}"
    completed = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=True, timeout=60
    )
    return completed.stdout.strip()


SAY = (
    "from numprune_exporters.trt.target import TrtExporter;"
    "found = TrtExporter().availability(); print(found.ready, found.detail, found.install, sep='|')"
)


def test_missing_tensorrt_is_said_with_nvidias_index(tmp_path):
    ready, detail, install = run_isolated(SAY, tmp_path).split("|")
    assert ready == "False"
    assert "`tensorrt`, which is not installed" in detail
    assert install == (
        "pip install 'numprune-export[trt]' --extra-index-url https://pypi.nvidia.com"
    )


def test_tensorrt_without_its_libraries_is_said(tmp_path):
    """What the bindings do when pip could not fetch the libraries beside them."""
    broken = "raise ImportError('libnvinfer.so.11: cannot open shared object file')"
    ready, detail, install = run_isolated(SAY, tmp_path, broken).split("|")
    assert ready == "False"
    assert "`tensorrt` is installed but cannot be loaded: libnvinfer.so.11" in detail
    assert "pypi.nvidia.com" in install


def test_looking_at_targets_imports_no_torch(tmp_path):
    code = SAY + ";print('torch' in sys.modules, 'tensorrt_rtx' in sys.modules)"
    assert run_isolated(code, tmp_path).endswith("False False")


@pytest.mark.parametrize("settings", [OnnxSettings(), TrtSettings()])
def test_settings_of_another_target_are_refused(tmp_path, settings):
    with pytest.raises(RecipeError, match=r"not settings of the target `trt-rtx`"):
        TrtRtxExporter().export(shaped([(2, 1, 8)]), tmp_path, settings)


def test_activation_without_a_graph_is_refused(tmp_path):
    model = uneven("llama", hidden_act="mish")
    with pytest.raises(UnsupportedModelError, match="`mish`"):
        TrtRtxExporter().export(decoder_of(model), tmp_path, TrtRtxSettings())
    assert not list(tmp_path.iterdir())


@needs_no_gpu
def test_opening_without_a_gpu_is_a_device_error(built):
    artifact = built(shaped([(4, 2, 32)]))
    with pytest.raises(DeviceError, match="no CUDA device"):
        TrtRtxExporter().open(artifact, threads=1, capacity=16)


@pytest.mark.parametrize("name", ["engine.plan", "graph/model.onnx.data"])
def test_tampered_file_is_refused_before_anything_is_loaded(built, name):
    artifact = built(shaped([(4, 2, 32)]))
    path = artifact.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for opened in (TrtRtxExporter().open, TrtRtxExporter().open_graph):
        with pytest.raises(InputError, match="its sha256 differs"):
            opened(artifact, threads=1, capacity=16)


def test_capacity_outside_the_profile_is_refused(built):
    artifact = built(shaped([(4, 2, 32)]), decode={"capacity": {"max": 64}})
    for opened in (TrtRtxExporter().open, TrtRtxExporter().open_graph):
        with pytest.raises(InputError, match="capacity `65` is outside the 1 to 64 tokens"):
            opened(artifact, threads=1, capacity=65)


@pytest.mark.parametrize("graph", ["fused", "decomposed"])
def test_graph_behind_the_engine_is_the_model(built, graph):
    model = uneven("llama")
    artifact = built(decoder_of(model), graph=graph, dtype="float32")
    tokens = np.random.default_rng(0).integers(0, 97, (3, 9))
    expected = forward(model, tokens)
    assert TrtRtxExporter().graph_cannot_run(artifact) is None
    with TrtRtxExporter().open_graph(artifact, threads=1, capacity=9) as runner:
        every = runner.prefill(tokens[:, :6], all_positions=True)
        np.testing.assert_allclose(every, expected[:, :6], rtol=0, atol=1e-4)
        for step in range(6, 9):
            logits = runner.decode(tokens[:, step])
            np.testing.assert_allclose(logits, expected[:, step], rtol=0, atol=1e-4)


def test_graph_takes_no_prompt_that_the_engine_would_not(built):
    artifact = built(shaped([(4, 2, 32)]), prefill={"length": {"max": 8}, "batch": {"max": 2}})
    with TrtRtxExporter().open_graph(artifact, threads=1, capacity=16) as runner:
        assert runner.prefill(np.ones((2, 8), np.int64)).shape == (2, 97)
        with pytest.raises(InputError, match="prompt length `9`"):
            runner.prefill(np.ones((2, 9), np.int64))
        with pytest.raises(InputError, match="batch `3`"):
            runner.prefill(np.ones((3, 8), np.int64))


def test_graph_that_cannot_run_says_why(built):
    artifact = built(shaped([(4, 2, 32)]), dtype="bfloat16")
    assert "no kernels for a graph in `bfloat16`" in TrtRtxExporter().graph_cannot_run(artifact)
    with pytest.raises(UnsupportedModelError, match="bfloat16") as caught:
        TrtRtxExporter().open_graph(artifact, threads=1, capacity=16)
    assert "float16" in caught.value.hint


def test_graph_that_was_not_kept_is_said(built):
    artifact = built(shaped([(4, 2, 32)]), keep_graph=False)
    assert "was not kept" in TrtRtxExporter().graph_cannot_run(artifact)
    with pytest.raises(UnsupportedModelError, match="was not kept"):
        TrtRtxExporter().open_graph(artifact, threads=1, capacity=16)


@pytest.mark.parametrize("path", ["../timing.cache", "a/../../timing.cache"])
def test_timing_cache_stays_in_the_run(tmp_path, path):
    with pytest.raises(RecipeError, match=r"`targets\.trt\.timing_cache`.*leaves the run folder"):
        timing_cache_path("trt", tmp_path, TrtSettings(timing_cache=path))


def test_timing_cache_lies_beside_both_variants(tmp_path):
    folder = tmp_path / "artifacts/trt/.dense.partial"
    assert timing_cache_path("trt", folder, TrtSettings()) == folder.parent / "timing.cache"
    elsewhere = TrtSettings(timing_cache=str(tmp_path / "t"))
    assert timing_cache_path("trt", folder, elsewhere) == tmp_path / "t"
    assert timing_cache_path("trt", folder, TrtSettings(timing_cache=None)) is None
    assert timing_cache_path("trt-rtx", folder, TrtRtxSettings()) is None


@needs_no_gpu
def test_tensorrt_itself_is_not_ready_here():
    availability = TrtExporter().availability()
    assert not availability.ready
    assert availability.detail


@pytest.mark.parametrize(
    ("capability", "named", "reason"),
    [
        ("9.0", (), "TensorRT-RTX 1.7.1.116 has no kernels for the Some GPU (sm90)"),
        ("8.6", (), None),
        ("8.6", ("sm80", "sm86"), None),
        ("8.6", ("sm80",), "built for sm80, but the Some GPU is sm86"),
        ("12.0", ("sm120",), None),
    ],
)
def test_ahead_of_time_engine_runs_on_the_gpus_it_was_built_for(
    monkeypatch, capability, named, reason
):
    gpu = Gpu("Some GPU", capability, 1 << 30, "13.0")
    monkeypatch.setattr(placement, "require_gpu", lambda: gpu)
    assert placement.why_not_here(toolkit.load("trt-rtx"), named) == reason
