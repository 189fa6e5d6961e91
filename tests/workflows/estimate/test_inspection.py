"""What `inspect` says of an encoder."""

import pytest
from emptied import emptied_encoder
from tiny_encoder import tiny_encoder

from numprune_export.models.checkpoint.save import save
from numprune_export.models.families import ENCODERS
from numprune_export.workflows.estimate import inspection


@pytest.fixture
def look(tmp_path):
    def see(model):
        save(model, None, ENCODERS[model.config.model_type], tmp_path, {})
        return inspection.look(str(tmp_path), revision=None, search=[])

    return see


def test_a_dense_encoder(look):
    model = tiny_encoder("distilbert", "token")
    description = look(model)
    content = description.to_json()
    assert content["architecture"] == "DistilBertForTokenClassification"
    assert content["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert content["prunable_parameters"] == 3 * (4 * 1048 + 48 * 65)
    assert content["sites"][0] == {
        "name": "layers.0.attention",
        "units": 4,
        "parameters_per_unit": 3 * 8 * (32 + 1) + 8 * 32,
    }
    assert content["emptied"] == []
    assert inspection.render(description).splitlines()[-2:] == [
        "0-2          attention       4            1,048  head",
        "0-2          mlp            48               65  neuron",
    ]


def test_what_has_lost_all_its_units_is_said(look):
    description = look(emptied_encoder("bert", "span"))
    assert description.to_json()["architecture"] == "BertForQuestionAnswering"
    assert description.to_json()["emptied"] == [
        "layers.0.attention",
        "layers.2.attention",
        "layers.1.mlp",
        "layers.2.mlp",
    ]
    assert inspection.render(description).splitlines()[-6:] == [
        "1            attention       2            1,048  head",
        "0            mlp            24               65  neuron",
        "0            attention       0                0  none left",
        "2            attention       0                0  none left",
        "1            mlp             0                0  none left",
        "2            mlp             0                0  none left",
    ]


def test_blocks_beside_an_emptied_one_are_no_run(look):
    description = look(emptied_encoder("roberta", emptied=("layers.1.mlp",)))
    assert inspection.render(description).splitlines()[-4:] == [
        "0-2          attention       2            1,048  head",
        "0            mlp            24               65  neuron",
        "2            mlp            24               65  neuron",
        "1            mlp             0                0  none left",
    ]
