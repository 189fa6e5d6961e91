"""What a manifest says of how its folder was made, and that a resumed run does not rewrite it."""

import json
import subprocess

import pytest
from safetensors.torch import load_file
from small import small_run

from numprune_export.core.version import __version__
from numprune_export.export.artifact import sha256_of
from numprune_export.measure.environment import describe
from numprune_export.models.checkpoint import manifest
from numprune_export.provenance import code, record
from numprune_export.provenance.record import Provenance

FOLDERS = ("model", "artifacts/onnx/dense", "artifacts/onnx/pruned")


def told(folder):
    return Provenance.of(manifest.read(folder), folder)


@pytest.mark.parametrize("place", FOLDERS)
def test_every_file_stands_in_the_manifest_with_its_hash_and_size(finished, place):
    files = manifest.read(finished / place).files
    there = {path.name for path in (finished / place).iterdir()} - {"manifest.json", "stage.json"}
    assert set(files) == there
    for name, entry in files.items():
        path = finished / place / name
        assert (entry.sha256, entry.bytes) == (sha256_of(path), path.stat().st_size)


@pytest.mark.parametrize("place", FOLDERS)
def test_recipe_code_machine_and_parent_are_told(finished, report, resolved, place):
    provenance = told(finished / place)
    assert provenance.recipe == resolved
    assert provenance.code == code.running()
    assert provenance.code.version == __version__
    assert provenance.environment == describe() == report.environment
    assert provenance.environment.packages["torch"]
    assert provenance.parent.sha256 == report.dense_sha256
    assert provenance.parent.reference == resolved["model"]["source"]
    assert provenance.key == json.loads((finished / place / "stage.json").read_text())["key"]
    assert not provenance.told_later


def test_what_was_pruned_names_its_calibration_and_its_weights(finished):
    config = json.loads((finished / "model" / "config.json").read_text())
    dense = told(finished / "artifacts/onnx/dense")
    assert (dense.calibration_sha256, dense.weights) == (None, {})
    weights = {"model.safetensors": sha256_of(finished / "model" / "model.safetensors")}
    for place in ("model", "artifacts/onnx/pruned"):
        provenance = told(finished / place)
        assert provenance.calibration_sha256 == config["numprune"]["calibration_sha256"]
        assert provenance.weights == weights
    assert load_file(finished / "model" / "model.safetensors")


def test_a_resumed_run_keeps_what_was_told_and_a_stage_made_anew_tells_anew(finished):
    path = finished / "artifacts/onnx/dense/manifest.json"
    old = manifest.read(path.parent)
    others = {"code": {"version": "0.0.1"}}
    path.write_text(old.model_copy(update={"provenance": old.provenance | others}).sealed().text())
    before = {file: file.read_bytes() for file in finished.rglob("*/manifest.json")}
    small_run(finished.parent)
    assert {file: file.read_bytes() for file in finished.rglob("*/manifest.json")} == before

    (path.parent / "stage.json").unlink()
    small_run(finished.parent)
    assert told(path.parent).code.version == __version__


def test_a_run_killed_before_it_could_tell_is_told_later(finished):
    path = finished / "artifacts/onnx/pruned/manifest.json"
    path.unlink()
    small_run(finished.parent)
    assert told(path.parent).told_later
    assert set(manifest.read(path.parent).files) == {
        "model.onnx",
        "model.onnx.data",
        "artifact.json",
    }


def test_the_commit_is_that_of_the_checkout_itself(tmp_path):
    def git(*arguments):
        own = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *own, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert code.running(tmp_path) == code.Code(version=__version__)
    git("init", "-q")
    code.running.cache_clear()
    assert code.running(tmp_path).commit is None  # nothing committed yet
    source = tmp_path / "numprune_export" / "a.py"
    source.parent.mkdir()
    source.write_text("1")
    git("add", "-A")
    git("commit", "-qm", "one")
    code.running.cache_clear()
    assert code.running(tmp_path) == code.Code(
        version=__version__, commit=git("rev-parse", "HEAD"), modified=False
    )
    source.write_text("2")
    code.running.cache_clear()
    assert code.running(tmp_path).modified
    # Installed inside somebody's repository: that commit is not this code's.
    assert code.running(source.parent).commit is None


def test_a_manifest_without_provenance_is_said(finished):
    folder = finished / "model"
    with pytest.raises(record.InputError, match="has no valid provenance"):
        Provenance.of(manifest.read(folder).model_copy(update={"provenance": None}), folder)
