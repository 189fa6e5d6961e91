"""Statistics that only the score reads are scored as they are collected, and stored nowhere."""

import pytest
from safetensors.torch import load_file
from small import small_recipe

from numprune_export import recipe as recipes
from numprune_export.calibration import statistics
from numprune_export.core.progress import Silent
from numprune_export.core.run_folder import open_folder
from numprune_export.core.shared_folder import SharedFolder
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.opening import open_inputs
from numprune_export.pipeline.rounds import rounds_of
from numprune_export.pipeline.stages import calibrate
from numprune_export.pipeline.stages.generate_text import calibration_texts

SHORT = {"texts": ["small.txt"], "sequences": 6, "tokens_per_sequence": 40}
FISHER = {
    "score": {"method": "fisher_obs", "sequences": 2, "token_stride": 2},
    "allocate": {"method": "curves", "attention": 1.0},
}


class Counted(Silent):
    """Steps that a stage expects and does."""

    def __init__(self):
        self.expected, self.done = {}, {}

    def begin(self, stage):
        self.stage = stage
        self.expected[stage] = self.done[stage] = 0

    def expect(self, steps):
        self.expected[self.stage] += steps

    def advance(self, steps):
        self.done[self.stage] += steps


@pytest.fixture
def gathered(monkeypatch):
    """Grows by one with each block whose statistics are collected."""
    blocks, unwatched = [], statistics._gather

    def gather(*arguments):
        blocks.append(None)
        return unwatched(*arguments)

    monkeypatch.setattr(statistics, "_gather", gather)
    return blocks


def scored(place, name="run", *, shared=None, **sections):
    """The score stage of a run in `place / name`, its scores and removal orders, and the steps."""
    named = recipes.named(str(small_recipe(place, calibration=SHORT, **sections)), ())
    observer = Counted()
    dense, kind = open_inputs(named.recipe, (place,))
    with open_folder(place / name) as folder:
        together = None if shared is None else SharedFolder(shared)
        context = Context(named.recipe, folder, observer, together)
        texts, _ = calibration_texts(context, kind.texts, dense)
        stage = next(rounds_of(context, kind, texts, dense)).scored
    assert observer.expected == observer.done
    return stage, {
        path.name: path.read_bytes() for path in sorted(stage.folder.glob("*.safetensors"))
    }


@pytest.mark.parametrize("sections", [{"score": "numerical"}, FISHER], ids=["numerical", "fisher"])
def test_they_are_the_scores_of_stored_statistics(tmp_path, monkeypatch, gathered, sections):
    at_once, expected = scored(tmp_path, "at once", **sections)
    assert list(expected) == ["removals.safetensors", "scores.safetensors"]
    assert not (tmp_path / "at once" / "statistics").exists()
    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "_at_once", lambda moments: False)
        stored, got = scored(tmp_path, "stored", **sections)
    assert (tmp_path / "stored" / "statistics").exists()
    assert stored.key == at_once.key
    assert got == expected
    assert len(load_file(stored.folder / "scores.safetensors")) == 8
    # Statistics that are on disk are read, as of a run of an earlier version.
    (stored.folder / "stage.json").unlink()
    before = len(gathered)
    again, got = scored(tmp_path, "stored", **sections)
    assert not again.resumed
    assert got == expected
    assert len(gathered) == before


@pytest.mark.parametrize("score", ["wanda", "numerical"])
def test_points_of_a_sweep_calibrate_once(tmp_path, gathered, score):
    """They share scores; those that depend on `keep` are computed from shared statistics."""
    shared = tmp_path / "shared"
    points = [
        scored(tmp_path, str(keep), shared=shared, score=score, keep=keep)[0] for keep in (0.8, 0.6)
    ]
    assert len(gathered) == 4
    depends = score == "numerical"
    assert points[1].resumed != depends
    assert bool(list(shared.glob("statistics-*"))) == depends


def test_parts_of_statistics_with_other_inputs_are_removed(tmp_path):
    parts = tmp_path / "run" / ".statistics.parts"
    scored(tmp_path)
    parts.mkdir()
    parts.with_name(".statistics.parts-key").write_text("of another recipe")
    scored(tmp_path)
    assert not list((tmp_path / "run").glob(".statistics*"))
