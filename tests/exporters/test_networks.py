"""Which networks a target takes: it says so, refuses the rest, and what it wrote says what it is."""

import pytest
from exported_encoder import encoder_of, export
from tiny import tiny
from tiny_encoder import tiny_encoder

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.models.families import FAMILIES
from numprune_exporters.contract_check import TARGETS
from numprune_exporters.onnx.target import OnnxExporter
from numprune_exporters.triton.served_targets import served

NAMES = [target.name for target in TARGETS]


def network(kind):
    if kind == "encoder":
        return encoder_of(tiny_encoder())
    return FAMILIES["llama"].decoder(tiny())


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_a_target_refuses_what_it_does_not_say_that_it_takes(target, tmp_path):
    assert target.networks
    assert target.networks <= {"decoder", "encoder"}
    for kind in {"decoder", "encoder"} - target.networks:
        with pytest.raises(
            UnsupportedModelError, match=f"`{target.name}` does not support {kind}s"
        ):
            target.export(network(kind), tmp_path, target.settings())
    assert not [*tmp_path.iterdir()]


def test_every_network_has_a_target():
    assert frozenset().union(*(target.networks for target in TARGETS)) == {"decoder", "encoder"}


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_an_artifact_says_which_network_it_holds(kind, tmp_path):
    exporter = OnnxExporter()
    artifact = exporter.export(network(kind), tmp_path, exporter.settings())
    assert artifact.network == network(kind).kind == kind


def test_an_encoder_is_not_packaged_for_a_server_of_text(tmp_path):
    with pytest.raises(UnsupportedModelError, match="holds an encoder"):
        served(export(encoder_of(tiny_encoder()), tmp_path / "a"))
