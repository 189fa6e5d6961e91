"""sbom.cdx.json: valid, of this folder's files, checked by `verify`, and told where it is missing."""

import json
import re
import sys

import pytest
from small import small_run

from numprune_export.export.artifact import sha256_of
from numprune_export.models.checkpoint import manifest
from numprune_export.provenance import sbom
from numprune_export.provenance.record import Provenance
from numprune_export.provenance.verification import verify

pytest.importorskip("cyclonedx", reason="the extra `sbom` is not installed")


def rendered(finished, licence):
    content = manifest.read(finished / "model")
    return sbom.render("small", content, Provenance.of(content, finished / "model"), licence)


def bill(finished):
    return json.loads((finished / "model" / sbom.NAME).read_text())


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        ({}, None),
        ({"license": "apache-2.0"}, {"license": {"id": "Apache-2.0"}}),
        ({"license": "llama3.1"}, {"license": {"name": "llama3.1"}}),
        (
            {"license": "other", "license_name": "own", "license_link": "https://example.org/own"},
            {"license": {"name": "own", "url": "https://example.org/own"}},
        ),
    ],
)
def test_it_is_valid_cyclonedx_with_the_licence_that_is_known(finished, licence, told):
    # Here: they take two seconds, in every worker of the suite.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = rendered(finished, licence)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    model = bom["metadata"]["component"]
    for component in (model, model["pedigree"]["ancestors"][0]):
        assert component.get("licenses") == (None if told is None else [told])


def test_it_names_every_file_the_parent_and_the_packages(finished, report):
    bom, folder = bill(finished), finished / "model"
    model = bom["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", report.recipe_name)
    files = {path.name for path in folder.iterdir()}
    files -= {"manifest.json", "stage.json", sbom.NAME}
    assert {component["name"]: component["hashes"] for component in model["components"]} == {
        name: [{"alg": "SHA-256", "content": sha256_of(folder / name)}] for name in files
    }
    (parent,) = model["pedigree"]["ancestors"]
    assert (parent["type"], parent["name"]) == ("machine-learning-model", "tiny-llama")
    assert parent["properties"][0]["value"] == report.dense_sha256
    packages = {component["name"]: component["version"] for component in bom["components"]}
    assert packages == report.environment.packages
    assert re.match("pkg:pypi/torch@2", next(
        component["purl"] for component in bom["components"] if component["name"] == "torch"
    ))  # fmt: skip
    depends = {
        dependency["ref"]: dependency.get("dependsOn", []) for dependency in bom["dependencies"]
    }
    assert len(depends["model"]) == len(packages)


def test_the_manifest_names_it_and_a_resumed_run_leaves_it(finished):
    content = manifest.read(finished / "model")
    assert content.provenance["sbom"] == sbom.NAME
    assert content.files[sbom.NAME].sha256 == sha256_of(finished / "model" / sbom.NAME)
    before = (finished / "model" / sbom.NAME).read_bytes()
    small_run(finished.parent)
    assert (finished / "model" / sbom.NAME).read_bytes() == before
    assert manifest.read(finished / "model") == content


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda text: text.replace(text[text.index('"content"') :][12:76], "0" * 64), "another sha256"),
        (lambda text: text.replace('"config.json"', '"other.json"'), "another sha256"),
        (lambda text: "{}", "is not a bill of materials"),
    ],
)  # fmt: skip
def test_verify_sees_a_bill_of_other_files_even_where_the_manifest_was_made_anew(
    finished, change, how
):
    folder = finished / "model"
    place, old = folder / sbom.NAME, manifest.read(folder)
    place.write_text(change(place.read_text()))
    (folder / manifest.NAME).write_text(manifest.describing(folder, old.provenance).text())
    (model, *_) = verify(finished)
    told = [f"{difference.name} {difference.how}" for difference in model.differences]
    assert told
    assert all(line.startswith(f"model/{sbom.NAME} ") and how in line for line in told)
    assert model.opened == "not opened"


def test_without_the_library_there_is_none_and_the_manifest_says_so(finished, monkeypatch):
    """A bill that no longer fits is not left behind; with the library it is back."""
    folder = finished / "model"
    place, old = folder / sbom.NAME, manifest.read(folder)
    place.write_text(place.read_text().replace('"config.json"', '"other.json"'))
    (folder / manifest.NAME).write_text(manifest.describing(folder, old.provenance).text())
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cyclonedx", None)
        small_run(finished.parent)
    assert not (finished / "model" / sbom.NAME).exists()
    content = manifest.read(finished / "model")
    assert sbom.NAME not in content.files
    assert "`cyclonedx`, which is not installed" in content.provenance["sbom"]
    assert "numprune-export[sbom]" in content.provenance["sbom"]
    assert not next(verify(finished)).differences

    small_run(finished.parent)
    assert manifest.read(finished / "model").provenance["sbom"] == sbom.NAME
    assert not next(verify(finished)).differences
