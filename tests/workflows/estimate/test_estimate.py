"""An estimate from a recipe: what it reads and what it says."""

import shutil

import pytest
from small import small_recipe

from numprune_export import recipe
from numprune_export.core.errors import InputError, RecipeError
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.recipe import builtin_dir
from numprune_export.workflows.estimate import estimate, forecast, job_of
from numprune_export.workflows.estimate.texts import texts_of

TINY = builtin_dir() / "tiny-llama"


def of(path, *changes):
    named = recipe.named(str(path), changes)
    return estimate(named.recipe, search=(named.folder,))


@pytest.fixture
def bare(tmp_path):
    """A model's configuration and nothing else: no weights, no tokenizer."""
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(TINY / "config.json", folder)
    return folder


def test_weights_tokenizer_and_text_are_not_needed(tmp_path, bare):
    path = small_recipe(tmp_path, model=str(bare), calibration={"texts": ["no-such.txt"]})
    found = of(path)
    assert [one.name for one in found.stages] == ["read", "calibrate", "score", "allocate", "prune"]
    assert all(one.seconds > 0 for one in found.stages)
    assert found.seconds == sum(one.seconds for one in found.stages)
    assert found.memory_bytes == max(one.memory_bytes for one in found.stages)


def test_disk_is_statistics_models_and_artifacts(tmp_path, bare):
    found = of(small_recipe(tmp_path, model=str(bare), keep=1.0))
    assert found.disk_bytes == {
        "statistics": 4 * 4 * (128**2 + 352**2),
        "model": 4 * 869_504,
        "artifacts": 2 * 4 * 869_504,
    }


def test_a_table_has_every_stage_and_the_totals(tmp_path, bare):
    found = of(small_recipe(tmp_path, model=str(bare)))
    lines = forecast.render(found).splitlines()
    names = [line.split()[0] for line in lines if line.endswith((" MB", " GB"))]
    assert names == [*(one.name for one in found.stages), "total"]
    assert any("48 calibration sequences, full windows of 64 tokens" in line for line in lines)


def test_text_that_the_model_writes_is_calibrated_on_too(tmp_path, bare):
    path = small_recipe(tmp_path, model=str(bare), generated_text=16)
    found = forecast.render(of(path))
    assert "write-text" in found
    assert "48 calibration sequences, full windows of 64 tokens" in found
    assert "16 more that the model writes" in found


def test_labelled_texts_are_as_long_as_their_words(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        '{"text": "%s", "label": "many words that are not counted"}' % ("word " * n)
        for n in (10, 30)
    ]
    path.write_text("\n".join(rows))
    found = texts_of(LabelledData(files=(str(path),), max_length=32, batch=2), ())
    assert found.sequences == 2
    assert found.length == pytest.approx(((2 + 13) + 32) / 2)
    assert found.pairs == pytest.approx(15**2 + 32**2)


def test_all_of_a_data_set_that_is_not_here_cannot_be_counted():
    with pytest.raises(RecipeError, match="some/data") as caught:
        texts_of(LabelledData(dataset={"id": "some/data"}), ())
    assert "calibration.sequences" in caught.value.hint
    found = texts_of(LabelledData(dataset={"id": "some/data"}, sequences=64, max_length=50), ())
    assert (found.sequences, found.length) == (64, 50)


def test_a_missing_configuration_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    named = recipe.named(str(small_recipe(tmp_path, model="empty")))
    with pytest.raises(InputError, match=r"config\.json"):
        job_of(named.recipe, (tmp_path,))
