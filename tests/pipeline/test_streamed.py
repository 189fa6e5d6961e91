"""Runs whose model is read block by block: the same plan, weights and quality as with all of it in memory."""

import json
import shutil
import weakref

import pytest
import torch
from gguf_files import write as write_gguf
from pretended import DEVICE, pretended
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import BRIEF, small_recipe, small_run
from tiny import tiny

from numprune_export import recipe as recipes
from numprune_export.calibration import statistics, store
from numprune_export.core.errors import NumericalError, RecipeError
from numprune_export.models import residency
from numprune_export.models.checkpoint import shards, streamed
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.checkpoint.source import resolve
from numprune_export.pipeline import opening
from numprune_export.pipeline.stages import dequantise, score
from numprune_export.pruning import apply
from numprune_export.recipe import builtin_dir

TINY = builtin_dir() / "tiny-llama"
SHORT = {
    **BRIEF,
    "calibration": {"texts": ["small.txt"], "sequences": 8, "tokens_per_sequence": 40},
}
METHODS = {
    "paper-numerical": {"method": "paper-numerical", "targets": {}},
    "best": {
        "method": "best", "generated_text": 4, "query_heads": "single", "targets": {},
        "allocate": {"method": "curves", "attention": [0.5, 1.0]},
    },
    "one shot, two rounds": {"method": "fast", "rounds": 2, "targets": {}},
    "no repair, exported": {"score": "flap", "compensate": "none"},
}  # fmt: skip


def weights(folder):
    tensors = {}
    for path in sorted((folder / "out" / "model").glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def both(tmp_path, **sections):
    """The run with the whole model in memory, and the streamed one."""
    reports = []
    for stream in (False, True):
        folder = tmp_path / str(stream)
        folder.mkdir()
        reports.append(small_run(folder, stream_weights=stream, **SHORT, **sections))
    return reports, (tmp_path / "False", tmp_path / "True")


@pytest.mark.parametrize("name", METHODS)
def test_it_gives_the_plan_the_weights_and_the_quality_of_the_whole_model(tmp_path, name):
    (whole, stream), folders = both(tmp_path, **METHODS[name])
    assert stream.plan == whole.plan
    expected, got = (weights(folder) for folder in folders)
    assert got.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(got[key], tensor), key
    for key, metric in whole.metrics.items():
        if key.startswith("quality."):
            assert stream.metrics[key].value == pytest.approx(metric.value, rel=1e-6), key
        if key.startswith("parity."):
            assert stream.metrics[key].value == pytest.approx(metric.value, rel=1e-3, abs=1e-5), key
    assert "blocks are read while they are in use" in (folders[1] / "out" / "log").read_text()
    shards = list((folders[1] / "out" / "model").glob("*.safetensors"))
    assert len(shards) == 5
    configs = [json.loads((f / "out" / "model" / "config.json").read_text()) for f in folders]
    for config in configs:
        del config["numprune"]["versions"]
    assert configs[0] == configs[1]


def test_every_block_is_read_once_a_pass_and_none_stays(tmp_path, monkeypatch):
    read = []
    unwatched = streamed._Blocks.block

    def block(self, index):
        assert sum(reference() is not None for _, reference in read) <= 1
        made = unwatched(self, index)
        read.append((index, weakref.ref(made.input_layernorm.weight)))
        return made

    monkeypatch.setattr(streamed._Blocks, "block", block)
    small_run(tmp_path, stream_weights=True, method="paper-numerical", targets={}, **SHORT)
    order = [index for index, _ in read]
    # Moments, repair, and the quality of the dense, masked and pruned model.
    assert order == 5 * list(range(4))


@pytest.fixture
def sharded(tmp_path):
    """The shipped model in bfloat16, each tensor in a shard of its own; a function to damage one."""
    folder = tmp_path / "sharded"
    shutil.copytree(TINY, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()

    def write(name=None, change=None):
        places = {}
        for number, (key, tensor) in enumerate(tensors.items()):
            shard = f"model-{number + 1:05d}-of-{len(tensors):05d}.safetensors"
            value = tensor.bfloat16()
            save_file({key: change(value) if key == name else value}, folder / shard)
            places[key] = shard
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder

    return write


def test_small_shards_in_another_dtype_are_read(sharded, tmp_path):
    model = {"source": str(sharded()), "dtype": "bfloat16"}
    (whole, stream), folders = both(tmp_path, model=model, method="paper-numerical", targets={})
    assert stream.plan == whole.plan
    for key, tensor in weights(folders[0]).items():
        assert torch.equal(weights(folders[1])[key], tensor)
        assert tensor.dtype is torch.bfloat16
    stated = {
        "weights": "bfloat16",
        "products": "bfloat16",
        "residual": "float32",
        "solves": "float64",
    }
    assert stream.precision.items() >= stated.items()
    assert "- residual: float32" in (folders[1] / "out" / "report.md").read_text()


def test_a_gguf_file_is_dequantised_once_and_streamed(tmp_path, monkeypatch):
    model = tiny(num_hidden_layers=2, rms_norm_eps=1e-5)
    path = write_gguf(tmp_path / "tiny.gguf", model, extra=[("general.name", "tiny")])
    (whole, stream), folders = both(tmp_path, model=str(path), method="paper-numerical", targets={})
    assert stream.plan == whole.plan
    expected, got = (weights(folder) for folder in folders)
    assert got.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(got[key], tensor), key
    log = (folders[1] / "out" / "log").read_text()
    assert log.index("dequantise: made") < log.index("score: made")
    monkeypatch.setattr(dequantise, "load_source", None)  # a second run does not read the file
    again = {"stream_weights": True, "model": str(path), "method": "paper-numerical", "targets": {}}
    small_run(folders[1], keep=0.6, **SHORT, **again)
    assert "dequantise: found" in (folders[1] / "out" / "log").read_text()[len(log) :]


def test_a_weight_that_is_not_finite_is_named_when_its_block_is_read(sharded, tmp_path):
    name = "model.layers.2.mlp.up_proj.weight"
    folder = sharded(name, lambda value: value.index_fill(0, torch.tensor([1]), torch.nan))
    model = {"source": str(folder), "dtype": "bfloat16"}
    with pytest.raises(NumericalError, match=f"`{name}`"):
        small_run(tmp_path, model=model, stream_weights=True, method="fast", targets={}, **SHORT)


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"model": str(builtin_dir() / "tiny-bert")}, "cannot be read block by block"),
        (
            {"tasks": {"lm_eval": ["sotu_endings"], "include": str(builtin_dir() / "tasks")}},
            "tasks",
        ),
    ],
)
def test_what_cannot_be_streamed_is_refused_before_work(tmp_path, sections, what):
    data = builtin_dir() / "data"
    if "model" in sections:
        texts = {"files": [str(data / "presidents_dev.jsonl")], "sequences": 8, "batch": 8}
        sections = {**sections, "calibration": texts, "evaluation": texts, "compensate": "none"}
    path = small_recipe(tmp_path, stream_weights=True, **{**SHORT, **sections})
    with pytest.raises(RecipeError, match=what):
        opening.check(recipes.load(path), search=(tmp_path,))


def test_a_block_changed_as_it_is_read_leaves_the_source_as_it_was():
    model = streamed.read_streamed(TINY, torch.float32, torch.device("cpu"))
    source = residency.source_of(model)
    changed = residency.Changed(source, lambda block, index: block.mlp.down_proj.weight.zero_())
    assert not changed.block(1).mlp.down_proj.weight.any()
    assert source.block(1).mlp.down_proj.weight.all()
    with safe_open(TINY / "model.safetensors", "pt") as file:
        stored = file.get_tensor("model.layers.1.mlp.down_proj.weight")
    assert torch.equal(source.block(1).mlp.down_proj.weight, stored)
    assert {parameter.device.type for parameter in model.model.layers.parameters()} == {"meta"}


def test_all_blocks_are_read_for_generated_text_on_a_device():
    with pretended():
        model = streamed.read_blocks(TINY, torch.float32, DEVICE)
        assert residency.source_of(model) is None
        state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    empty = skeleton(resolve(str(TINY), revision=None, search=()))
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in empty.state_dict().items()
    }
    for name, tensor in load_file(TINY / "model.safetensors").items():
        assert torch.equal(state[name], tensor), name


def interrupting(patch, owner, name, last):
    """Make the call of a function with the argument `last`, a block or its file, end as Ctrl-C does."""
    unstopped = getattr(owner, name)

    def stopping(*arguments):
        if last in arguments:
            raise KeyboardInterrupt
        return unstopped(*arguments)

    patch.setattr(owner, name, stopping)


def counting(patch, owner, name):
    """The number of calls of a function, as a list that grows."""
    calls, uncounted = [], getattr(owner, name)

    def counted(*arguments, **named):
        calls.append(name)
        return uncounted(*arguments, **named)

    patch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize(
    ("order", "owner", "name", "work"),
    [
        ("one_shot", store, "write_block", (statistics, "_gather")),
        ("sequential", score, "save_whole", (statistics, "_gather")),
        ("sequential", shards.BlockShards, "add", (apply, "_prune_block")),
    ],
    ids=["calibrate", "score", "prune"],
)
def test_an_interrupted_stage_goes_on_after_its_finished_blocks(tmp_path, order, owner, name, work):
    """And ends with the same files."""
    affine = {
        "method": "closed_form",
        "affine": True,
        "order": order,
    }  # biases are not in skeletons
    sections = {"stream_weights": True, "targets": {}, "compensate": affine, "score": "numerical"}
    (tmp_path / "whole").mkdir()
    small_run(tmp_path / "whole", **SHORT, **sections)
    place = tmp_path / "stopped"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        part = place / "out" / ".scores.parts" / "block_002.safetensors"
        interrupting(patch, owner, name, part if owner is score else 2)
        small_run(place, **SHORT, **sections)
    assert list((place / "out").glob(".*.parts"))
    with pytest.MonkeyPatch.context() as patch:
        calls = counting(patch, *work)
        small_run(place, **SHORT, **sections)
    assert len(calls) == 2
    assert not list((place / "out").glob(".*.parts*"))
    runs = tmp_path / "whole" / "out", place / "out"
    stored = {"statistics"} if order == "one_shot" else set()
    assert {path.name for path in runs[0].glob("statistics")} == stored
    for folder in ("scores", "model", *stored):
        files = [
            {path.name: path.read_bytes() for path in (run / folder).glob("*.safetensors")}
            for run in runs
        ]
        assert files[0] == files[1] != {}


def test_parts_of_another_recipe_are_not_taken(tmp_path):
    sections = {"stream_weights": True, "targets": {}, "method": "fast"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupting(patch, store, "write_block", 2)
        small_run(tmp_path, **SHORT, **sections)
    other = {**SHORT, "calibration": {**SHORT["calibration"], "seed": 3}}
    with pytest.MonkeyPatch.context() as patch:
        calls = counting(patch, statistics, "_gather")
        small_run(tmp_path, **other, **sections)
    assert len(calls) == 4
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupting(patch, store, "write_block", 2)
        small_run(tmp_path, **SHORT, **sections)
    small_run(tmp_path, **other, **sections)
    assert not list((tmp_path / "out").glob(".*.parts*"))


def test_the_dtype_of_the_checkpoint_is_that_of_most_weights(sharded, tmp_path):
    folder = sharded("model.norm.weight", lambda value: value.float())
    report = small_run(
        tmp_path, model={"source": str(folder), "dtype": "auto"}, method="fast", targets={}, **SHORT
    )
    saved = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    dense = sum(tensor.numel() for tensor in load_file(TINY / "model.safetensors").values())
    assert report.metrics["size.bytes.dense"].value == 2 * dense
