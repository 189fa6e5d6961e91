"""Which stages a changed setting has done again: exactly those that depend on it.

A finished run is gone through once more with another recipe. Nothing is computed: every stage is taken as
it is, under the key that it would now have.
"""

import json
import re

import pytest
import yaml
from pretended import DEVICE, pretended
from small import small_recipe

from numprune_export import pipeline
from numprune_export import recipe as recipes
from numprune_export.core.progress import Silent
from numprune_export.core.run_folder import RunFolder
from numprune_export.core.stage import Stage
from numprune_export.models.device import Placement
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import chosen_targets
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.opening import dense_of, kind_of
from numprune_export.pipeline.rounds import pruned_checkpoint
from numprune_export.pipeline.stages.benchmark import benchmark
from numprune_export.pipeline.stages.export import export
from numprune_export.pipeline.stages.recover import recover
from numprune_export.pipeline.stages.validate import validate
from numprune_export.recipe import builtin_dir, reading

DATA = builtin_dir() / "data"

BENCHMARK = {"benchmark"}
EVALUATION = {"validate.dense", "validate"}
RECOVERED = {"recover", "export.onnx.pruned", "validate", "benchmark"}
PRUNED = {"prune", "export.onnx.pruned", "validate", "benchmark"}
"""Of the language model, whose pruned model is then recovered, `recover` too."""
PLAN = {"allocate"} | PRUNED
SCORE = {"score"} | PLAN
GRADIENTS = {"gradients"} | SCORE
CALIBRATION = {"calibrate"} | GRADIENTS
DENSE = {"export.onnx.dense", "validate.dense"} | CALIBRATION


class Replayed(RunFolder):
    """A finished run whose stages keep their folders and get new keys."""

    def __init__(self, path):
        super().__init__(path)
        self.redone = set()

    def stage(self, name, where, key, make, *, editable=False):
        folder = self.path / re.sub(r"-\d+$", "", where)
        same = json.loads((folder / "stage.json").read_text())["key"] == key
        if not same:
            self.redone.add(name)
        return Stage(name, key, folder, 0.0, resumed=True)

    def log(self, line):
        return


DENSE_MODELS = {}


def dense_model(sections, recipe):
    """Loaded once for all recipes that name the same."""
    if sections not in DENSE_MODELS:
        DENSE_MODELS[sections] = dense_of(recipe, ())
    return DENSE_MODELS[sections]


def redone(out, recipe):
    folder, search = Replayed(out), (out.parent,)
    context = Context(recipe, folder, Silent())
    dense = dense_model(recipe.model_dump_json(include={"model", "query_heads"}), recipe)
    kind = kind_of(recipe, dense, search)
    pruned = recover(context, kind, dense, pruned_checkpoint(context, kind, dense))
    models = Models(dense, pruned.checkpoint.folder, pruned.checkpoint.key, pruned.plan)
    exported = [export(context, target, models, kind.export) for target in chosen_targets(recipe)]
    validate(context, kind, models, exported)
    benchmark(context, kind, models, exported)
    return folder.redone


def finished(folder, **sections):
    path = small_recipe(folder, **sections)
    pipeline.run(
        recipes.load(path), name="small", folder=folder / "out", search=(folder,), observer=Silent()
    )
    return folder / "out", yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    for name in ("sotu_2011_2021.txt", "sotu_1980_2010.txt"):  # long texts take long to tokenise
        (folder / name).write_text((DATA / name).read_text()[:40_000])

    def texts(**settings):
        return {"texts": ["sotu_2011_2021.txt"], **settings}

    return finished(
        folder,
        calibration=texts(sequences=48, tokens_per_sequence=64),
        evaluation=texts(sequences=4, tokens_per_sequence=48, seed=1),
        score={"method": "fisher_obs", "sequences": 4, "token_stride": 2},
        allocate={"method": "curves", "attention": [1.0, 2.0]},
        compensate={"method": "closed_form", "producers": {}},
        generated_text={"sequences": 4, "for_gradients": 0.5},
        recover={"tokens": 512, "held_out": 1, "batch": 4},
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    def examples(part):
        files = [str(DATA / f"presidents_{part}.jsonl")]
        return {"files": files, "sequences": 32, "max_length": 32}

    return finished(
        tmp_path_factory.mktemp("encoder"),
        model=str(builtin_dir() / "tiny-bert"),
        calibration=examples("train"),
        evaluation=examples("dev"),
        score={"method": "fisher"},
        allocate={"method": "search"},
        compensate={"method": "closed_form", "order": "one_shot"},
        benchmark={"batches": [1], "lengths": [16], "samples": 5},
    )


def changed(content, settings):
    """The recipe with settings changed, by their dotted keys."""
    content = json.loads(json.dumps(content))
    reading.apply(content, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
    return recipes.parse(content, "changed")


GATE = {
    "gate.min": {"size.bytes.ratio": 0.1}, "gate.max": {"size.bytes.ratio": 1}, "gate.require": ["a"],
    "gate.ignore": ["a"], "gate.lower_is_better": ["a"], "gate.higher_is_better": ["a"],
    "gate.noise": 0.1, "gate.tolerance.ratios": 0.1, "gate.tolerance.times": 0.1,
    "gate.tolerance.memory": 0.2, "gate.tolerance.quality": 0.1, "gate.tolerance.size": 0.1,
    "gate.tolerance.files": 0.1, "gate.tolerance.agreement": 0.1,
}  # fmt: skip
PARITY = {"parity.tolerance": 1e-3, "parity.rounding": 2, "parity.steps": 4, "parity.bisect": False}
OF_ENCODERS = {"benchmark.batches": [2], "benchmark.lengths": [8]}
OF_DECODERS = {"benchmark.prefill": 8, "benchmark.past": 8, "benchmark.decode_steps": 2,
               "benchmark.batch": 2}  # fmt: skip
SPEECHES = {"texts": ["sotu_2011_2021.txt"]}
NAMED = {"mix": [SPEECHES], "sequences": 4, "tokens_per_sequence": 48, "seed": 1}
MIXED = {"mix": [SPEECHES, {"texts": ["sotu_1980_2010.txt"]}], "sequences": 48,
         "tokens_per_sequence": 64}  # fmt: skip
PROTOCOL = {"benchmark.warmup": 3, "benchmark.samples": 9, "benchmark.sessions": 3,
            "benchmark.threads": 2, "benchmark.reference": False}  # fmt: skip

TABLE = {
    "decoder": [
        (set(), GATE | OF_ENCODERS | {"seed": 5, "threads": 2, "device": "cpu", "stream_weights": False}),
        (BENCHMARK, PROTOCOL | OF_DECODERS | {"benchmark.seed": 3}),
        (EVALUATION, PARITY | {"evaluation.batch": 2}),
        (EVALUATION, {"evaluation": NAMED}),  # the same windows, as metrics of a source
        (
            EVALUATION | BENCHMARK,
            {
                "evaluation.texts": ["sotu_1980_2010.txt"], "evaluation.sequences": 5,
                "evaluation.tokens_per_sequence": 40, "evaluation.seed": 4,
            },
        ),
        (DENSE | BENCHMARK | {"write-text"}, {"model.dtype": "bfloat16"}),
        (SCORE, {"query_heads": "single", "score.metric": "identity", "score.damping": 0.1,
                 "score.centred": False, "score.step": 8,
                 "score.token_stride": 1}),  # of so few tokens every one is read all the same
        (CALIBRATION, {"calibration": MIXED, "calibration.sequences": 47, "calibration.batch": 2,
                       "calibration.texts": ["sotu_1980_2010.txt"], "calibration.general": 0.5}),
        (CALIBRATION | {"write-text"}, {"calibration.seed": 3, "calibration.tokens_per_sequence": 48,
                                        "matmul_precision": "highest"}),
        (GRADIENTS, {"score.sequences": 3, "generated_text.for_gradients": 0.0,
                     "generated_text.texts": "sotu_1980_2010.txt"}),
        (GRADIENTS | {"write-text"}, {"generated_text.sequences": 6}),
        (
            {"write-text"},  # what follows goes by the text itself, which is replayed here
            {
                "generated_text.per_window": 2, "generated_text.prompts": "vocabulary", "generated_text.requests": ["Write."],
                "generated_text.asked": 0.5, "generated_text.temperature": 1.0,
                "generated_text.min_p": 0.1,
            },
        ),
        (
            PLAN,
            {
                "keep": 0.6, "allocate.min_keep": 0.1, "allocate.align_to": 4,
                "allocate.cost": "macs", "allocate.length": 32, "allocate.attention": [1, 3],
                "allocate.convex": False, "generated_text.for_trials": False,
                "compensate.damping": 0.1, "compensate.affine": True,
            },
        ),
        (
            PRUNED,
            {
                "compensate.token_stride": 2, "compensate.producers.iterations": 1,
                "compensate.producers.token_stride": 4, "compensate.producers.damping": 0.1,
                "compensate.producers.least": 0.1, "compensate.producers.spared_token_stride": 3,
            },
        ),
        (
            RECOVERED,
            {
                "recover.tokens": 64, "recover.minutes": 3, "recover.sequences": 3, "recover.batch": 1,
                "recover.learning_rate": 0.1, "recover.weights": "all", "recover.held_out": 2,
                "recover.check_every": 1, "recover.patience": 1,
            },
        ),
        (
            {"export.onnx.dense", "export.onnx.pruned", "validate.dense", "validate", "benchmark"},
            {"targets.onnx": {"graph": "standard"}},
        ),
    ],
    "encoder": [
        (set(), GATE | OF_DECODERS | {"seed": 5, "threads": 2, "device": "cpu", "stream_weights": False}),
        (BENCHMARK, PROTOCOL | OF_ENCODERS),
        (EVALUATION, PARITY | {"evaluation.batch": 16, "evaluation.metric": "f1"}),
        (EVALUATION | BENCHMARK, {
            "evaluation.sequences": 33, "evaluation.seed": 3, "evaluation.max_length": 16,
            "benchmark.seed": 3, "evaluation.files": [str(DATA / "presidents_train.jsonl")],
        }),
        (CALIBRATION, {
            "calibration.sequences": 33, "calibration.seed": 3, "calibration.batch": 16,
            "calibration.max_length": 16, "calibration.files": [str(DATA / "presidents_dev.jsonl")],
        }),
        (GRADIENTS, {"score.per": "example", "score.labels": "own", "score.temperature": 3.0}),
        (PLAN, {
            "keep": 0.6, "allocate.min_keep": 0.1, "allocate.align_to": 8, "allocate.length": 9,
            "allocate.cost": "parameters", "allocate.rearrange": False, "allocate.until_stable": True,
        }),
        (PRUNED, {"compensate.damping": 0.1, "compensate.affine": True}),
    ],
}  # fmt: skip

CASES = [
    pytest.param(kind, {key: value}, stages, id=f"{kind} {key}")
    for kind, groups in TABLE.items()
    for stages, settings in groups
    for key, value in settings.items()
    if stages
]
NOTHING = [
    pytest.param(kind, settings, set(), id=f"{kind} what no stage reads")
    for kind, groups in TABLE.items()
    for stages, settings in groups
    if not stages
]

NOT_CHANGED = re.compile(
    r"version|method|rounds|recover|recover\.method|model\.(source|revision)|tasks|targets\.onnx"
    r"|(calibration|evaluation)\.(dataset|field|fields|windows|label|relabel|target_scale|outside"
    r"|mix|metric|stride)|evaluation\.general|(score|allocate|compensate)\.method|compensate\.(order|token_stride|producers)"
    r"|allocate\.timing\..*|generated_text\..*|query_heads|matmul_precision|model\.dtype"
)
"""Of other sections' shapes, or changed for the other kind of model."""


def keys_of(value, prefix=""):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from keys_of(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix


@pytest.mark.slow
@pytest.mark.parametrize("kind", TABLE)
def test_every_setting_is_in_the_table(kind, request):
    _, content = request.getfixturevalue(kind)
    known = {key for _, settings in TABLE[kind] for key in settings}
    settings = keys_of(json.loads(recipes.parse(content, kind).model_dump_json()))
    missing = [key for key in settings if key not in known and not NOT_CHANGED.fullmatch(key)]
    assert missing == []


@pytest.mark.parametrize("kind", TABLE)
def test_the_same_recipe_has_nothing_done_again(kind, request):
    out, content = request.getfixturevalue(kind)
    assert redone(out, recipes.parse(content, kind)) == set()


def test_another_kind_of_device_has_done_again_what_is_computed_there(decoder):
    out, content = decoder
    recipe = recipes.parse(content, "decoder")
    dense = dense_model(recipe.model_dump_json(include={"model", "query_heads"}), recipe)
    here = dense.placement
    with pretended():
        vars(dense)["placement"] = Placement(DEVICE, "")
        try:
            there = redone(out, recipe)
        finally:
            vars(dense)["placement"] = here
    assert there == CALIBRATION | EVALUATION | {"write-text", "recover"}


@pytest.mark.parametrize(("kind", "settings", "stages"), NOTHING + CASES)
def test_a_setting_has_exactly_its_stages_done_again(kind, settings, stages, request):
    out, content = request.getfixturevalue(kind)
    then = {"recover"} if kind == "decoder" and "prune" in stages else set()
    assert redone(out, changed(content, settings)) == stages | then
