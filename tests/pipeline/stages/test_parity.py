"""A wrong artifact stops a run and the first wrong layer is named; a right one is compared everywhere."""

from dataclasses import replace

import pytest
from small import small_recipe

from numprune_export import pipeline
from numprune_export import recipe as recipes
from numprune_export.core.errors import ParityError
from numprune_export.core.progress import Silent
from numprune_export.export.decoder import Projection
from numprune_export.recipe import builtin_dir
from numprune_exporters.onnx.target import OnnxExporter


def run(folder, **changes):
    recipe = recipes.load(small_recipe(folder, **changes))
    return pipeline.run(
        recipe, name="small", folder=folder / "out", search=(folder,), observer=Silent()
    )


@pytest.fixture
def miscompiled(monkeypatch):
    """A target that gets one projection of one layer of the pruned model slightly wrong."""
    right = OnnxExporter.export

    def breaks(wrong_layer, when=lambda decoder: True):
        def export(self, decoder, folder, settings):
            layers = list(decoder.layers)
            if wrong_layer < len(layers) and when(decoder):
                layer = layers[wrong_layer]
                down = Projection(layer.down.weight * 1.05, layer.down.bias)
                layers[wrong_layer] = replace(layer, down=down)
            return right(self, replace(decoder, layers=tuple(layers)), folder, settings)

        monkeypatch.setattr(OnnxExporter, "export", export)

    return breaks


@pytest.mark.parametrize("wrong_layer", [1, 3])
def test_the_first_wrong_layer_of_a_miscompiled_artifact_is_named(
    tmp_path, miscompiled, wrong_layer
):
    miscompiled(wrong_layer)
    with pytest.raises(ParityError, match="disagrees with PyTorch") as caught:
        run(tmp_path)
    assert f"first layer that differs is `model.layers.{wrong_layer}`" in str(caught.value)
    assert not (tmp_path / "out" / "validate").exists()


def test_an_error_in_the_first_layer_is_not_blamed_on_it_alone(tmp_path, miscompiled):
    miscompiled(0)
    with pytest.raises(
        ParityError, match="the first layer is wrong, or the embedding or head around"
    ):
        run(tmp_path)


def test_an_error_that_does_not_come_again_is_said_so(tmp_path, miscompiled):
    times = []

    def once(decoder):
        times.append(decoder)
        return len(times) == 1

    miscompiled(1, when=once)
    with pytest.raises(ParityError, match="a second export agrees"):
        run(tmp_path)


def test_without_bisect_the_error_comes_at_once(tmp_path, miscompiled):
    miscompiled(1)
    with pytest.raises(ParityError) as caught:
        run(tmp_path, parity={"steps": 4, "bisect": False})
    assert "layer" not in str(caught.value)


@pytest.mark.slow
def test_half_precision_is_held_to_what_half_precision_can_do(tmp_path):
    report = run(tmp_path, targets={"onnx": {"dtype": "float16"}})
    error = report.metrics["parity.onnx.max_abs_error"]
    own = report.metrics["parity.onnx.rounding_error"]
    assert own.conditions["runtime"] == "torch float16"
    assert 1e-3 < error.value <= error.conditions["tolerance"] == pytest.approx(3 * own.value)
    sizes = [report.metrics[f"size.{name}bytes.pruned"].value for name in ("", "onnx.")]
    assert sizes[1] < 0.6 * sizes[0]


def test_the_tiny_model_has_enough_layers_for_these_tests():
    import json

    config = json.loads((builtin_dir() / "tiny-llama" / "config.json").read_text())
    assert config["num_hidden_layers"] >= 4
