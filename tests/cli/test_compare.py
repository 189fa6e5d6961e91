"""`compare`: any models side by side, the first as the reference."""

import json
import shutil

import pytest
from transformers import AutoConfig, BertForSequenceClassification

from numprune_export.recipe import builtin_dir
from numprune_export.workflows.remeasure.compare import _key

FEW = ("--samples", "5", "--quiet")


def test_a_run_its_dense_artifact_and_the_dense_model(answered, small_run, tmp_path):
    dense = small_run / "artifacts" / "onnx" / "dense"
    model = small_run.parent / "dense"
    code, out, err = answered("compare", dense, small_run, model, *FEW, "--json")
    assert code == 0, err
    comparison = json.loads(out)
    metrics = comparison["metrics"]
    assert [side["key"] for side in comparison["sides"]] == ["A", "B", "C"]
    report = json.loads((small_run / "report.json").read_text())["metrics"]
    assert metrics["size.A.bytes"]["value"] == report["size.onnx.bytes.dense"]["value"]
    assert metrics["size.B.bytes"]["value"] == report["size.onnx.bytes.pruned"]["value"]
    quality = {key: metrics[f"quality.perplexity.{key}"]["value"] for key in "ABC"}
    assert quality["B"] == report["quality.perplexity.onnx"]["value"]
    assert quality["C"] == pytest.approx(report["quality.perplexity.dense"]["value"], rel=1e-4)
    assert quality["A"] == pytest.approx(quality["C"], rel=1e-4)
    for phase in ("prefill", "decode"):
        assert f"latency.A.{phase}.speedup" not in metrics
        for key in "BC":
            speedup = metrics[f"latency.{key}.{phase}.speedup"]
            assert speedup["low"] <= speedup["value"] <= speedup["high"]
            assert speedup["conditions"]["threads"] == 1
    assert comparison["notes"] == []


def test_a_text_is_read_and_the_table_shows_all(answered, small_run, tmp_path):
    (tmp_path / "text.txt").write_text("The state of the union is strong. " * 40)
    model = small_run.parent / "dense"
    code, out, err = answered("compare", model, small_run, *FEW, "--text", "text.txt")
    assert code == 0, err
    assert "perplexity" in out
    rows = [line for line in out.splitlines() if line.startswith(("| decode", "| prefill"))]
    assert len(rows) == 4
    assert all(" to " in row for row in rows if ", B" in row)
    assert "prompt_tokens 128" in out  # the model is of no run, so the defaults hold


def test_other_tokens_and_architectures_are_said(answered, small_run, tmp_path):
    other = tmp_path / "mistral"
    shutil.copytree(small_run.parent / "dense", other)
    config = json.loads((other / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    (other / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    code, out, err = answered("compare", small_run, other, *FEW, "--json")
    assert code == 0, err
    comparison = json.loads(out)
    assert any("tokenizes text differently from" in note for note in comparison["notes"])
    assert any(
        "different architectures" in note and "`mistral`" in note for note in comparison["notes"]
    )
    assert "quality.perplexity.A" in comparison["metrics"]
    assert "quality.perplexity.B" not in comparison["metrics"]


def test_a_decoder_and_an_encoder_are_not_compared(refused, small_run):
    err = refused(10, "compare", small_run, builtin_dir() / "tiny-bert", *FEW)
    assert "is a decoder and" in err
    assert "an encoder" in err


def test_encoders_are_timed_by_shape(answered, tmp_path):
    model = builtin_dir() / "tiny-bert"
    code, out, err = answered("compare", model, model, *FEW, "--json")
    assert code == 0, err
    comparison = json.loads(out)
    assert "latency.B.forward.b8.l64.speedup" in comparison["metrics"]
    assert "quality is not measured" in comparison["notes"][0]


def test_a_run_whose_dense_model_is_another_one_now_is_refused(refused, own_run, tmp_path):
    config = tmp_path / "dense" / "config.json"
    config.write_text(config.read_text() + "\n")
    err = refused(10, "compare", own_run, own_run / "artifacts" / "onnx" / "dense", *FEW)
    assert "the dense model found now" in err


def test_shapes_longer_than_a_model_takes_are_left_out(answered, tmp_path):
    config = AutoConfig.from_pretrained(builtin_dir() / "tiny-bert", max_position_embeddings=64)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "short")
    code, out, err = answered("compare", builtin_dir() / "tiny-bert", "short", *FEW, "--json")
    assert code == 0, err
    timed = json.loads(out)["metrics"]
    assert "latency.B.forward.b1.l64.speedup" in timed
    assert not [name for name in timed if ".l128." in name]


def test_the_protocol_of_the_command_line_is_followed(answered, small_run):
    arguments = ("--samples", "6", "--threads", "2", "--quiet", "--json")
    code, out, err = answered("compare", small_run, small_run, *arguments)
    assert code == 0, err
    speedup = json.loads(out)["metrics"]["latency.B.decode.speedup"]
    assert (speedup["samples"], speedup["conditions"]["threads"]) == (6, 2)


def test_keys_go_on_after_the_alphabet():
    assert [_key(number) for number in (0, 25, 26, 53)] == ["A", "Z", "A1", "B2"]


def test_one_alone_or_an_unreadable_text_is_refused(refused, small_run):
    assert "alone cannot be compared" in refused(2, "compare", small_run)
    err = refused(4, "compare", small_run, small_run, "--text", "nowhere.txt")
    assert "cannot read `nowhere.txt`: No such file" in err
