"""The files and facts of an engine."""

from one_layer import decoder_of
from shaped import shaped
from tiny import uneven

from numprune_export.export.artifact import Artifact, sha256_of


def test_several_builds_are_one_artifact(built):
    artifact = built(shaped([(4, 2, 32)]), repeat_builds=2)
    assert artifact.entry == "engine.plan"
    assert artifact.facts["builds"] == ["engine.plan", "engine.1.plan"]
    assert len(artifact.facts["build_seconds"]) == 2
    assert "engine.1.plan" in artifact.evidence
    assert artifact.size_bytes == (artifact.folder / "engine.plan").stat().st_size


def test_graph_is_evidence_and_can_be_left_out(built):
    kept, left = (
        built(shaped([(4, 2, 32)]), "kept"),
        built(shaped([(4, 2, 32)]), "left", keep_graph=False),
    )
    graph = {"graph/model.onnx", "graph/model.onnx.data"}
    assert set(kept.files) == {"engine.plan", *graph}
    assert set(kept.evidence) == graph
    assert set(left.files) == {"engine.plan"}
    assert not (left.folder / "graph").exists()


def test_artifact_states_how_it_was_made(built):
    artifact = built(decoder_of(uneven("llama")), compute_capabilities=["sm86"])
    assert Artifact.load(artifact.folder) == artifact
    for name, digest in artifact.files.items():
        assert sha256_of(artifact.folder / name) == digest
    facts = artifact.facts
    assert facts["runtime"] == "TensorRT-RTX 1.7.1.116"
    assert facts["toolkit"] == {"module": "tensorrt_rtx", "version": "1.7.1.116"}
    assert facts["built_for"] == {"compute_capabilities": ["sm86"]}
    assert facts["profiles"]["prefill"]["length"] == [1, 128, 128]
    assert facts["opsets"] == {"ai.onnx": 23}
    assert not facts["stripped"]
    assert facts["precision"]["network"]["ATTENTION_OUTPUT"] == {"HALF": 3}
