"""`verify` names every file that is missing, changed or extra, and opens only what is whole."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from small import small_run

from numprune_export.cli import app
from numprune_export.core.errors import InputError
from numprune_export.core.run_folder import MARKER
from numprune_export.models.checkpoint import manifest
from numprune_export.provenance import reopening, verification


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
        *("benchmark", "plan", "scores", "validate-dense", "validate"),
        "report.json",
        ".",
    ]
    assert "loaded, " in lines[0]
    assert "ran in onnxruntime" in lines[1]
    assert lines[-1] == "verified: every file matches its manifest"


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
        "`model/model.safetensors` was changed: its sha256 differs",
        "`model/tokenizer.json` has 2 bytes",
        "`model/evil.py` is extra",
        "`artifacts/onnx/dense/model.onnx` is missing",
        "`artifacts/onnx/pruned/model.onnx.data` was changed: its sha256 differs",
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


def every_file(run):
    """Of a run, relative to it; its marker has no content."""
    return [
        path.relative_to(run).as_posix()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name != MARKER
    ]


def test_a_bit_of_any_file_of_a_run_is_noticed(finished):
    for name in every_file(finished):
        before = (finished / name).read_bytes()
        for place in (0, len(before) // 2, -1):
            content = bytearray(before)
            content[place] ^= 4
            (finished / name).write_bytes(content)
            assert noticed(finished), (name, place)
        (finished / name).unlink()
        assert noticed(finished), name
        (finished / name).write_bytes(before)
    assert not noticed(finished)


def noticed(run):
    """Whether anything is said of a run, without opening what is whole."""
    try:
        return any(part.differences for part in verification.verify(run))
    except InputError:
        return True


@pytest.fixture(autouse=True)
def _unopened(request, monkeypatch):
    """Tests of `noticed` hash each file many times, and need not run the models."""
    if "any_file" in request.node.name:
        monkeypatch.setattr(reopening, "reload_model", lambda folder: "")
        monkeypatch.setattr(reopening, "reopen", lambda folder: "")


RECIPES = {
    "cut": lambda path: path.write_text("a: ["),
    "not UTF-8": lambda path: path.write_bytes(b"\xff"),
    "gone": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    **{
        text: lambda path, text=text: path.write_text(text)
        for text in ("", "a: !!int x", "a: !!bool x", "a: !!timestamp x", "2026-02-30", "[" * 900)
    },
}


@pytest.mark.parametrize("damage", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("listed", [False, True])
def test_a_damaged_recipe_is_a_difference(finished, verify, damage, listed):
    """Also where the run's manifest was forged to agree."""
    damage(finished / "recipe.yaml")
    if listed and (finished / "recipe.yaml").is_file():
        content = manifest.read(finished)
        entry = manifest.Entry.of(finished / "recipe.yaml")
        files = {**content.files, "recipe.yaml": entry}
        forged = content.model_copy(update={"files": files}).sealed()
        (finished / "manifest.json").write_text(forged.text())
    assert "recipe.yaml" in verify(finished, 1).out


EXTRAS = {
    "a file": lambda path: path.write_text("x"),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to a folder": lambda path: path.symlink_to("/"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an empty folder": Path.mkdir,
}


@pytest.mark.parametrize("make", EXTRAS.values(), ids=EXTRAS)
@pytest.mark.parametrize(
    "where", ["model", "artifacts/onnx/dense", "artifacts/onnx", "artifacts", "plan", "scores"]
)
def test_whatever_was_put_into_a_folder_of_a_run_is_extra(finished, make, where):
    make(finished / where / "new")
    told = [difference for part in verification.verify(finished) for difference in part.differences]
    assert [difference.name for difference in told] == [f"{where}/new"]
    assert told[0].how.startswith("is extra")


def test_names_that_no_terminal_can_show_are_escaped(finished, verify):
    (finished / "plan" / os.fsdecode(b"a\xff")).write_text("x")
    assert r"plan/a\udcff` is extra" in verify(finished, 1).out


def test_a_stage_that_lists_a_name_of_half_a_character(finished, verify):
    damage(
        finished / "validate/stage.json", lambda stage: stage["files"].update({"\ud800": [1, "0"]})
    )
    assert "validate/stage.json` " in verify(finished, 1).out


def test_a_copied_artifact_beside_those_of_the_run_is_extra_and_not_opened(finished, verify):
    shutil.copytree(finished / "artifacts/onnx/dense", finished / "artifacts/onnx/other")
    (finished / "artifacts/onnx/other/manifest.json").write_text("{")
    assert "`artifacts/onnx/other` is extra" in verify(finished, 1).out


def test_of_the_hubs_own_files_only_those_are_let_be(finished, verify):
    folder = finished / "model"
    (folder / ".cache/huggingface/download").mkdir(parents=True)
    (folder / ".cache/huggingface/download/config.json.metadata").write_text("x")
    (folder / ".gitattributes").write_text("x")
    assert "verified" in verify(folder, 0).out
    (folder / ".cache/evil.py").write_text("x")
    assert "`.cache/evil.py` is extra" in verify(folder, 1).out


def test_a_key_that_stands_twice_in_a_manifest_is_refused(finished, verify):
    path = finished / "model/manifest.json"
    text = path.read_text()
    path.write_text(
        text.replace('"format_version": 1,', '"format_version": 1, "format_version": 1,')
    )
    assert "the key `format_version` twice" in verify(finished / "model", 4).err


def test_a_report_without_its_seal_is_said(finished, verify):
    damage(finished / "report.json", lambda content: content.pop("sha256"))
    assert "it has no sha256 of its own" in verify(finished, 1).out


def test_the_log_may_grow_and_what_it_said_must_stand(finished, verify):
    log = finished / "log"
    with log.open("a") as file:
        file.write("more\n")
    assert "verified" in verify(finished, 0).out
    log.write_text("other" + log.read_text()[5:])
    assert "`log` was changed: its recorded part differs" in verify(finished, 1).out


def test_what_others_put_beside_a_run_is_named_and_not_looked_at(finished, verify):
    (finished / "check.xml").write_text("<x/>")
    assert "not of the run, not looked at: check.xml" in verify(finished, 0).out


MENDED = [
    "artifacts/onnx/dense/artifact.json",
    "artifacts/onnx/dense/model.onnx.data",
    "artifacts/onnx/pruned/manifest.json",
    "benchmark/metrics.json",
    "manifest.json",
    "model/README.md",
    "model/manifest.json",
    "model/model.safetensors",
    "model/sbom.cdx.json",
    "model/stage.json",
    "model/tokenizer.json",
    "plan/budget.json",
    "recipe.yaml",
    "report.html",
    "report.json",
    "scores/removals.safetensors",
    "validate/warnings.json",
]


@pytest.mark.slow
def test_the_same_run_again_mends_what_verify_names(finished, verify):
    """Half of the files changed, half missing, then the other way round."""
    for turn in (0, 1):
        for number, name in enumerate(MENDED):
            if number % 2 == turn:
                (finished / name).unlink()
            else:
                flip_last_byte(finished / name)
        small_run(finished.parent)
        assert "verified" in verify(finished, 0).out


@pytest.mark.slow
def test_a_plan_edited_by_hand_differs_until_it_is_run(finished, verify):
    damage(finished / "plan/plan.json", lambda content: content["sites"][0]["kept"].pop())
    assert "`plan/plan.json`" in verify(finished, 1).out
    small_run(finished.parent)
    assert "verified" in verify(finished, 0).out
