"""What reaches TensorRT-RTX's builder, and what stops it."""

import pytest
from one_layer import first_layer_of
from shaped import shaped
from tiny import uneven

from numprune_export.core.errors import DeviceError, OutputError, RecipeError
from numprune_exporters.cuda.device import why_none
from numprune_exporters.trt.build.builder import build, configuration, optimization_profile
from numprune_exporters.trt.build.network import Refused
from numprune_exporters.trt.settings import TrtRtxSettings, TrtSettings, profiles


def test_profiles_reach_the_builder(kit, parsed):
    decoder = shaped([(4, 2, 32)])
    parsed_graph, inputs = parsed(decoder)
    settings = TrtRtxSettings.model_validate(
        {"prefill": {"batch": {"opt": 2, "max": 8}}, "decode": {"capacity": {"min": 32}}}
    )
    shapes = profiles(decoder, settings, "trt-rtx")
    prefill, decode = (
        optimization_profile(parsed_graph.builder, spans, inputs) for spans in shapes.dimensions
    )
    read = {name: [tuple(shape) for shape in prefill.get_shape(name)] for name in inputs}
    assert read["input_ids"] == [(1, 1), (2, 128), (8, 128)]
    assert read["logits_positions"] == [(1, 1), (2, 1), (8, 128)]
    assert read["past_key_values.0.key"] == [(2, 1, 1, 16), (2, 2, 1, 16), (2, 8, 1, 16)]
    read = {name: [tuple(shape) for shape in decode.get_shape(name)] for name in inputs}
    assert read["position_ids"] == [(1, 1), (2, 1), (8, 1)]
    assert read["slot_positions"] == [(1, 32), (2, 128), (8, 128)]
    config = configuration(kit, parsed_graph, settings, shapes, inputs)
    assert config.num_optimization_profiles == 2


def test_inconsistent_profiles_are_refused_by_the_builder(kit, parsed, tmp_path):
    """Every input has its own shapes: the builder must see that they belong together."""
    decoder = shaped([(4, 2, 32)])
    parsed_graph, inputs = parsed(decoder)
    settings = TrtRtxSettings()
    shapes = profiles(decoder, settings, "trt-rtx")
    torn = inputs | {"position_ids": {"type": "int64", "shape": ["batch", 7]}}
    with pytest.raises(Refused) as caught:
        build(kit, parsed_graph, settings, shapes, torn, tmp_path / "engine.plan", None)
    assert caught.value.step == "builder"
    assert not (tmp_path / "engine.plan").exists()


def test_settings_reach_the_builder(kit, parsed):
    decoder = shaped([(4, 2, 32)])
    parsed_graph, inputs = parsed(decoder)
    flag = kit.module.BuilderFlag

    def configured(settings):
        shapes = profiles(decoder, settings, "trt-rtx")
        return configuration(kit, parsed_graph, settings, shapes, inputs)

    plain = configured(TrtRtxSettings())
    for name in ("TF32", "REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE"):
        assert not plain.get_flag(flag.__members__[name])
    assert plain.profiling_verbosity == kit.module.ProfilingVerbosity.DETAILED
    assert plain.num_compute_capabilities == 0
    aimed = configured(TrtRtxSettings(compute_capabilities=("sm80", "sm120"), workspace_mib=77))
    known = kit.module.ComputeCapability
    found_for = [aimed.get_compute_capability(index) for index in range(2)]
    assert found_for == [known.SM80, known.SM120]
    assert aimed.get_memory_pool_limit(kit.module.MemoryPoolType.WORKSPACE) == 77 << 20
    tuned = configured(
        TrtSettings(
            tf32=True, refittable=True, stripped=True, version_compatible=True,
            optimization_level=5, hardware_compatibility="ampere_plus",
        )
    )  # fmt: skip
    for name in ("TF32", "REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE"):
        assert tuned.get_flag(flag.__members__[name])
    assert tuned.builder_optimization_level == 5
    # TensorRT-RTX takes the level and ignores it, so that only its names can be checked here.
    levels = kit.module.HardwareCompatibilityLevel.__members__
    assert {"AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"} < set(levels)


def test_too_small_a_workspace_is_a_recipe_error(built):
    with pytest.raises(RecipeError, match=r"`targets\.trt-rtx\.workspace_mib` is too small"):
        built(first_layer_of(uneven("llama")), workspace_mib=1)


needs_no_gpu = pytest.mark.skipif(why_none() is None, reason="a GPU is here: nothing is refused")


@needs_no_gpu
@pytest.mark.parametrize("setting", ["refittable", "stripped"])
def test_refit_is_compiled_on_a_gpu(built, setting):
    with pytest.raises(DeviceError, match="refittable and stripped engines on a GPU: no CUDA"):
        built(first_layer_of(uneven("llama")), **{setting: True})


def test_full_disk_leaves_no_half_engine(kit, parsed, tmp_path):
    decoder = shaped([(4, 2, 32)])
    parsed_graph, inputs = parsed(decoder)
    settings = TrtRtxSettings()
    full = tmp_path / "engine.plan"
    full.symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        build(
            kit, parsed_graph, settings, profiles(decoder, settings, "trt-rtx"), inputs, full, None
        )
    assert not full.is_symlink()
