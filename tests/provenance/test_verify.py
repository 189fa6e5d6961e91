"""`verify` names every file that is missing, changed or extra, and opens only what is whole."""

import json
import sys

import pytest

from numprune_export.cli import app
from numprune_export.models.checkpoint import manifest


@pytest.fixture
def verify(monkeypatch, capsys):
    def call(path, code):
        monkeypatch.setattr(sys, "argv", ["numprune-export", "verify", str(path)])
        with pytest.raises(SystemExit) as exit_:
            app.main()
        captured = capsys.readouterr()
        assert (exit_.value.code or 0) == code, captured
        return captured

    return call


def damage(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_whole_run_is_hashed_loaded_and_run(finished, verify):
    lines = verify(finished, 0).out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [
        "model",
        "artifacts/onnx/dense",
        "artifacts/onnx/pruned",
        "report.json",
    ]
    assert "loaded, " in lines[0]
    assert "ran by onnxruntime" in lines[1]
    assert lines[-1] == "verified: every file is what was written"


@pytest.mark.parametrize("place", ["model", "artifacts/onnx/pruned"])
def test_a_part_can_be_verified_where_it_was_copied_to(finished, verify, place):
    assert "verified" in verify(finished / place, 0).out


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_every_difference_is_named_at_once(finished, verify):
    flip_last_byte(finished / "model/model.safetensors")
    (finished / "model/tokenizer.json").write_text("{}")
    (finished / "model/evil.py").write_text("raise SystemExit('it ran')")
    (finished / "artifacts/onnx/dense/model.onnx").unlink()
    flip_last_byte(finished / "artifacts/onnx/pruned/model.onnx.data")
    captured = verify(finished, 1)
    for words in (
        "`model/model.safetensors` is not the file that was written",
        "`model/tokenizer.json` has 2 bytes",
        "`model/evil.py` is extra",
        "`artifacts/onnx/dense/model.onnx` is missing",
        "`artifacts/onnx/pruned/model.onnx.data` is not the file that was written",
    ):
        assert words in captured.out
    assert captured.out.count("DIFFERS") == 3
    assert len(captured.err.strip().splitlines()) == 2
    assert "and 4 more" in captured.err


@pytest.mark.parametrize("name", ["config.json", "README.md", "model.safetensors"])
def test_a_missing_file_of_a_model_is_named(finished, verify, name):
    (finished / "model" / name).unlink()
    assert f"`{name}` is missing" in verify(finished / "model", 1).err


def test_code_in_the_folder_is_not_run(finished, verify):
    """Even where the manifest was forged to agree."""
    folder = finished / "model"
    (folder / "modeling_numprune.py").write_text("raise SystemExit('code from the folder ran')")
    (folder / "sbom.cdx.json").unlink(missing_ok=True)
    forged = manifest.describing(folder, manifest.read(folder).provenance)
    (folder / "manifest.json").write_text(forged.text())
    assert "verified" in verify(folder, 0).out


def test_a_file_that_does_not_open_is_said_though_its_hash_is_right(finished, verify):
    folder = finished / "artifacts/onnx/pruned"
    (folder / "model.onnx").write_bytes(b"\x08\x09")
    index = folder / "artifact.json"
    broken = manifest.sha256_of(folder / "model.onnx")
    damage(index, lambda content: content["files"].update({"model.onnx": broken}))
    forged = manifest.describing(folder, manifest.read(folder).provenance)
    (folder / "manifest.json").write_text(forged.text())
    assert "does not open" in verify(folder, 1).err


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("model/manifest.json", lambda c: c["provenance"]["recipe"].update(keep=0.9), "was edited"),
        ("report.json", lambda c: c.update(summary="Ten times faster."), "was edited"),
        ("report.json", lambda c: c["recipe"].update(keep=0.9), "is not the recipe of the report"),
    ],
)
def test_edits_by_hand_are_said(finished, verify, name, change, words):
    damage(finished / name, change)
    captured = verify(finished, 1)
    assert words in captured.out
    assert name in captured.out or "recipe.yaml" in captured.out


def test_an_artifact_of_another_model_is_said(finished, verify):
    folder = finished / "artifacts/onnx/pruned"
    before = manifest.read(folder)
    other = before.provenance | {"weights": {"model.safetensors": "0" * 64}}
    changed = before.model_copy(update={"provenance": other}).sealed()
    (folder / "manifest.json").write_text(changed.text())
    assert "names another pruned model" in verify(finished, 1).err


def test_what_a_run_did_not_write_exits_4(finished, verify, tmp_path):
    assert "is not a folder that" in verify(tmp_path / "nowhere", 4).err
    (finished / "model/manifest.json").unlink()
    assert "has no `manifest.json`" in verify(finished, 4).err
    (finished / "report.json").unlink()
    assert "is not finished" in verify(finished, 4).err


def test_a_folder_as_the_hub_keeps_it_is_whole(finished, verify, tmp_path):
    """Links to blobs elsewhere, and the hub's own file beside them."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in (finished / "model").iterdir():
        (snapshot / path.name).symlink_to(path)
    (snapshot / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert "verified" in verify(snapshot, 0).out
