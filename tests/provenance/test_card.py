"""The model card: valid metadata, only measured numbers, a snippet that works, never half written."""

import json
import math
import os
import re
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard
from tiny import tiny

from numprune_export import load
from numprune_export.core.run_folder import RunFolder
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.source import resolve
from numprune_export.provenance import card
from numprune_export.provenance.licence import licence_of
from numprune_export.provenance.publishing import publish_card
from numprune_export.report.schema import Measurement


@pytest.fixture
def config(finished):
    return card.read_config(finished / "model")


@pytest.mark.slow
def test_the_metadata_is_valid_and_holds_what_was_measured(finished, report):
    data = ModelCard.load(finished / "model" / "README.md").data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-generation"
    assert {"pruned", "custom_code"} <= set(data.tags)
    assert data.base_model is None
    assert data.license is None
    (result,) = data.eval_results
    assert result.metric_type == "perplexity"
    assert result.metric_value == report.metrics["quality.perplexity.pruned"].value
    assert result.dataset_name == "small.txt"


@pytest.mark.slow
def test_the_snippet_works_where_the_folder_is(finished, tmp_path):
    text = (finished / "model" / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=finished / "model",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time")


def test_every_layer_and_the_limits_are_told(finished, report):
    text = (finished / "model" / "README.md").read_text()
    for width in report.plan:
        assert f"{width.units - width.kept} of {width.units} (" in text
    assert report.summary in text
    assert "use the same text" in text
    assert "do not state its licence" in text
    assert str(finished.parent) not in text


def test_a_number_that_is_none_is_left_out_of_the_metadata(report, config):
    nan = Measurement(value=math.nan, unit="perplexity per token", samples=1)
    broken = report.model_copy(update={"metrics": {"quality.perplexity.pruned": nan}})
    data = ModelCard(card.render(broken, config, {})).data
    assert data.eval_results is None
    nothing = report.model_copy(update={"metrics": {}})
    assert "measured only as nothing" in card.render(nothing, config, {})


def test_a_parent_from_the_hub_is_the_base_model_and_gives_its_licence(report, config):
    parent = {"reference": "some/model", "revision": "0" * 40, "sha256": "1" * 64}
    config = config | {"numprune": config["numprune"] | {"parent": parent}}
    told = {"license": "other", "license_name": "llama3", "license_link": "LICENSE"}
    text = card.render(report, config, told)
    data = ModelCard(text).data
    assert data.base_model == "some/model"
    assert (data.license, data.license_name, data.license_link) == ("other", "llama3", "LICENSE")
    assert "huggingface.co/some/model" in text
    assert "licence, which" not in text


def test_an_encoder_has_its_own_class_and_task(report, config):
    config = config | {"architectures": ["NumpruneBertForTokenClassification"]}
    text = card.render(report, config, {})
    assert ModelCard(text).data.pipeline_tag == "token-classification"
    assert "AutoModelForTokenClassification.from_pretrained" in text


def test_a_stock_checkpoint_asks_for_no_trust(report, config):
    stock = {key: value for key, value in config.items() if key != "auto_map"}
    text = card.render(report, stock, {})
    assert "trust_remote_code" not in text
    assert "custom_code" not in ModelCard(text).data.tags


@pytest.mark.parametrize(
    ("content", "licence"),
    [
        ("---\nlicense: apache-2.0\nlanguage: en\n---\nText", {"license": "apache-2.0"}),
        ("---\nlicense: [a, b]\n---\n", {}),
        ("---\nlicense_name: x\n---\n", {}),
        ("---\n: {\n---\n", {}),
        ("No metadata", {}),
        (None, {}),
    ],
)
def test_the_licence_of_a_folder(tmp_path, content, licence):
    tiny("llama").save_pretrained(tmp_path)
    if content is not None:
        (tmp_path / "README.md").write_text(content)
    assert licence_of(resolve(str(tmp_path), revision=None, search=[])) == licence


class Stopping(RunFolder):
    """A run folder whose process is killed at its nth write."""

    def __init__(self, path, writes):
        super().__init__(path)
        self.left = writes

    def write(self, name, text):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().write(name, text)


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_stopped_between_any_two_writes_the_model_still_loads(finished, report, writes):
    changed = report.model_copy(update={"recipe_name": "another"})
    with pytest.raises(KeyboardInterrupt):
        publish_card(Stopping(finished, writes), changed, {})
    assert load(finished / "model", verify_hashes=True)

    publish_card(RunFolder(finished), changed, {})
    folder = finished / "model"
    assert "# another" in (folder / "README.md").read_text()
    assert not list(manifest.differences(folder, manifest.read(folder)))


def test_the_same_report_writes_nothing(finished, report):
    publish_card(Stopping(finished, 0), report, {})
    assert json.loads((finished / "model/manifest.json").read_text())["provenance"]
