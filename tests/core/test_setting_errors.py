"""Mistakes in settings are told in the words of a recipe."""

import pytest

from numprune_export import recipe as recipes
from numprune_export.core.errors import RecipeError
from numprune_export.export import servers, targets

FOREIGN = ("valid tuple", "valid string", "valid dict", "input should", "[key]", "True", "None")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("keep=yes", "`keep`: must be a number (got `yes`)"),
        ("keep=[1]", "`keep`: must be a number (got a list)"),
        ("keep=1e400", "`keep`: must be"),
        ("threads=1.5", "`threads`: must be a whole number (got `1.5`)"),
        ("sed=x", "unknown key `sed`"),
        ("calibration.texts=a.txt", "`calibration.texts`: must be a list, `[...]` (got `a.txt`)"),
        ("calibration.texts=[]", "`calibration.texts`: must have at least 1 item (got a list)"),
        (
            "calibration.texts=[7]",
            "`calibration.texts.0`: must be text; put it in quotes (got `7`)",
        ),
        ("model=7", "`model`: must be a mapping, `{...}` (got `7`)"),
        ("model.revision=7", "`model.revision`: must be text; put it in quotes (got `7`)"),
        ("targets=onnx", "`targets`: must be a mapping, `{...}` (got `onnx`)"),
        ("generated_text.for_trials=maybe", "must be `true` or `false` (got `maybe`)"),
        ("products=[]", "`matmul_precision`: must be one of"),
        ("score.method=wand", "unknown method `wand`, expected one of `"),
        ("calibration.sequences=0", "must be greater than 0 (got `0`)"),
    ],
)
def test_a_recipe(change, message):
    with pytest.raises(RecipeError) as refusal:
        recipes.named("smoke", [change])
    assert message in str(refusal.value)
    assert not any(word in str(refusal.value) for word in FOREIGN)


def test_labels_to_relabel_may_be_words_numbers_and_truths():
    change = "evaluation.relabel={yes: 1, 0: 1, true: 0, 2.5: 1}"
    recipe = recipes.named("smoke-bert", [change]).recipe
    assert recipe.evaluation.relabel == {"yes": 1, "0": 1, "true": 0, "2.5": 1}
    with pytest.raises(RecipeError, match=r"`evaluation.relabel.bad`: must be a whole number"):
        recipes.named("smoke-bert", ["evaluation.relabel={bad: x}"])
    with pytest.raises(RecipeError, match=r"`evaluation.relabel`: must be a mapping"):
        recipes.named("smoke-bert", ["evaluation.relabel=[1]"])


def test_a_target_and_a_server():
    onnx, triton = targets.find("onnx"), servers.find("triton")
    with pytest.raises(RecipeError, match=r"`targets.onnx.nothing`: "):
        targets.settings_for(onnx, {"nothing": 1})
    name = next(iter(triton.settings.model_fields))
    with pytest.raises(RecipeError) as refusal:
        servers.settings_for(triton, {name: {"a": 1}})
    assert f"`{name}` of the server `triton`: must be" in str(refusal.value)
    assert not any(word in str(refusal.value) for word in FOREIGN)
