"""`package` on the command line: what it writes, and what it refuses without leaving anything."""

import json
import shutil

import pytest
from command import command
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


@pytest.fixture
def run_copy(run_folder, tmp_path):
    """A run to damage; its files are copies."""
    return shutil.copytree(run_folder, tmp_path / "run")


@pytest.fixture
def refused(tmp_path):
    """A package that must fail: exit code, two lines of message, and nothing written."""

    def call(code, run, *arguments, out="out"):
        before = sorted(tmp_path.rglob("*"))
        got = command("package", str(run), "--out", str(tmp_path / out), *arguments)
        lines = got.err.strip().splitlines()
        assert got.code == code, got.err
        assert got.out == ""
        assert len(lines) == 2, got.err
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("hint: ")
        assert sorted(tmp_path.rglob("*")) == before
        return got.err

    return call


def config_of(path):
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


@pytest.mark.slow
def test_the_dense_model_is_packaged_too_into_an_empty_folder(run_folder, tmp_path):
    (tmp_path / "out").mkdir()
    settings = ["capacity=64", "max_batch=2", "instances=3", "max_tokens=9", "queue_delay_us=0"]
    changes = [word for setting in settings for word in ("--set", setting)]
    done = command(
        "package",
        str(run_folder),
        "--out",
        str(tmp_path / "out"),
        "--variant",
        "dense",
        "--name",
        "my-model.v1",
        *changes,
    )
    assert done.code == 0, done.err
    assert "README.md" in done.out
    model = tmp_path / "out" / "repository" / "my-model.v1"
    config = config_of(model / "config.pbtxt")
    assert config.name == "my-model.v1"
    assert config.max_batch_size == 2
    assert config.instance_group[0].count == 3
    said = {name: parameter.string_value for name, parameter in config.parameters.items()}
    assert said["capacity"] == "64"
    assert said["max_tokens"] == "9"
    files = json.loads((model / "1" / "artifact" / "artifact.json").read_text())["files"]
    report = json.loads((run_folder / "report.json").read_text())
    assert files == report["artifacts"]["onnx.dense"]["files"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", "tritn"], "did you mean `triton`"),
        (["--target", "trtx"], "it has: onnx.dense, onnx.pruned"),
        (["--variant", "smaller"], "it has: onnx.dense, onnx.pruned"),
        (["--name", "../model"], "`name`"),
        (["--name", "a b"], "`name`"),
        (["--name", ""], "`name`"),
        (["--set", "capacity"], "is not `key=value`"),
        (["--set", "capacity=0"], "`capacity`"),
        (["--set", "capacity=many"], "`capacity`"),
        (["--set", "capacity=513"], "this artifact takes `1` to `512`"),
        (["--set", "max_batch=0"], "`max_batch`"),
        (["--set", "batch=4"], "`batch`"),
        (["--set", "instances=999999999999999"], "`instances`"),
        (["--set", "instances=2000"], "`instances`"),
        (["--set", "queue_delay_us=100000000000000000000000"], "`queue_delay_us`"),
        (["--set", "queue_delay_us=-1"], "`queue_delay_us`"),
        (["--set", "threads=99999999999"], "`threads`"),
        (["--set", "max_tokens=100000000000000000000"], "`max_tokens`"),
        (["--set", "max_tokens=2147483648"], "`max_tokens`"),
        (["--set", "capacity={"], "is not YAML"),
    ],
)
def test_mistakes_exit_2(run_folder, refused, arguments, message):
    assert message in refused(2, run_folder, *arguments)


def test_what_is_no_finished_run_exits_4(run_copy, tmp_path, refused):
    assert "is not a run folder" in refused(4, tmp_path / "nowhere")
    assert "is not a run folder" in refused(4, run_copy / "model")
    (run_copy / "report.json").unlink()
    assert "is not finished" in refused(4, run_copy)


def test_a_run_changed_after_its_report_exits_4(run_copy, refused):
    index = run_copy / "artifacts" / "onnx" / "pruned" / "artifact.json"
    content = json.loads(index.read_text())
    content["files"]["model.onnx"] = "0" * 64
    index.write_text(json.dumps(content))
    assert "newer than the report" in refused(4, run_copy)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"artifacts": 3}',
        '{"artifacts": {"onnx.pruned": 3}}',
        '{"artifacts": ' + "1" * 5000,
    ],
)
def test_a_report_without_artifacts_exits_4(run_copy, refused, text):
    (run_copy / "report.json").write_text(text)
    assert "cannot read the artifacts in the report" in refused(4, run_copy)


@pytest.mark.parametrize("damage", ["altered", "missing", "no tokenizer", "bad tokenizer"])
def test_damaged_files_are_refused(run_copy, refused, damage):
    weights = run_copy / "artifacts" / "onnx" / "pruned" / "model.onnx.data"
    tokenizer = run_copy / "model" / "tokenizer.json"
    match damage:
        case "altered":
            weights.write_bytes(b"\1" + weights.read_bytes()[1:])
            assert "sha256 differs" in refused(4, run_copy)
        case "missing":
            weights.unlink()
            assert "model.onnx.data` is missing" in refused(4, run_copy)
        case "no tokenizer":
            tokenizer.unlink()
            assert "tokenizer.json" in refused(2, run_copy)
        case "bad tokenizer":
            tokenizer.write_text("{}")
            assert "cannot be read" in refused(4, run_copy)


def test_a_run_at_work_exits_6(run_copy, refused):
    import fcntl

    with (run_copy / ".numprune-run").open("a") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        assert "another run is in progress" in refused(6, run_copy)


def test_an_output_that_is_in_use_exits_6(run_folder, tmp_path, refused):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert "is not an empty folder" in refused(6, run_folder, out="full")
    assert "is not an empty folder" in refused(6, run_folder, out="full/file")
    assert "cannot write" in refused(6, run_folder, out="full/file/below")


def test_a_failure_leaves_no_folders_made_for_it(run_folder, refused):
    refused(2, run_folder, "--set", "capacity=513", out="new/and/deeper")
