"""sbom.cdx.json: the bill of materials of a pruned model folder, CycloneDX 1.6, from its manifest.

Writing needs the extra `sbom`; checking the hashes does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from numprune_export.core.errors import MissingExtraError
from numprune_export.core.optional import require
from numprune_export.core.stage_record import Difference
from numprune_export.models.checkpoint.manifest import Manifest
from numprune_export.provenance.record import Parent, Provenance

NAME = "sbom.cdx.json"
LIBRARY, EXTRA = "cyclonedx", "sbom"


def why_not() -> str | None:
    """The reason why no bill of materials can be written, for the manifest; None if it can."""
    try:
        require(LIBRARY, extra=EXTRA)
    except MissingExtraError as error:
        return f"not written: {error}; {error.hint}"
    return None


def render(
    name: str, manifest: Manifest, provenance: Provenance, licence: Mapping[str, str]
) -> str:
    """Render the bill of materials, with the current time.

    The same folder always gives the same components and serial number.

    Args:
        name: Model name.
        manifest: Manifest of the folder, without this file.
        provenance: Provenance of the model.
        licence: Licence of the dense model, see `licence_of`.

    Raises:
        MissingExtraError: the library is not installed.
    """
    require(LIBRARY, extra=EXTRA)
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    model = _model(name, manifest, provenance, licence)
    packages = [
        _package(package, version) for package, version in provenance.environment.packages.items()
    ]
    serial = uuid5(NAMESPACE_OID, f"{manifest.sha256}")
    bill = Bom(metadata=BomMetaData(component=model), components=packages, serial_number=serial)
    bill.register_dependency(model, packages)
    written = make_outputter(bill, OutputFormat.JSON, SchemaVersion.V1_6)
    return written.output_as_string(indent=2) + "\n"


def differences(text: str, manifest: Manifest) -> Iterator[Difference]:
    """Files whose hashes differ between the bill of materials and the manifest."""
    try:
        hashes = {
            component["name"]: component["hashes"][0]["content"]
            for component in json.loads(text)["metadata"]["component"]["components"]
        }
    except (ValueError, LookupError, TypeError, RecursionError):
        yield Difference(NAME, "is not a bill of materials of this folder")
        return
    listed = {name: entry.sha256 for name, entry in manifest.files.items() if name != NAME}
    for name in sorted({*hashes, *listed}):
        if hashes.get(name) != listed.get(name):
            yield Difference(NAME, f"lists `{name}` with another sha256 than the manifest")


def _model(
    name: str, manifest: Manifest, provenance: Provenance, licence: Mapping[str, str]
) -> Any:
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    files = [_file(path, entry.sha256) for path, entry in manifest.files.items()]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=name,
        version=provenance.key[:12],
        bom_ref="model",
        components=files,
        licenses=_licences(licence),
        pedigree=Pedigree(ancestors=[_parent(provenance.parent, licence)]),
    )


def _parent(parent: Parent, licence: Mapping[str, str]) -> Any:
    """The dense model as a component, without local folders."""
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    hub = parent.revision is not None
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=parent.reference if hub else Path(parent.reference).name,
        version=parent.revision,
        bom_ref="parent",
        licenses=_licences(licence),
        # A digest over several files is not the hash of a component.
        properties=[Property(name="numprune-export:sha256", value=parent.sha256)],
    )


def _file(name: str, sha256: str) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    digest = HashType(alg=HashAlgorithm.SHA_256, content=sha256)
    path = PurePosixPath(name).as_posix()
    return Component(type=ComponentType.FILE, name=path, bom_ref=f"file:{path}", hashes=[digest])


def _package(name: str, version: str) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"package:{name}",
        purl=PackageURL("pypi", name=name, version=version),
    )


def _licences(licence: Mapping[str, str]) -> list[Any]:
    """The licence by SPDX identifier; for `other`, by name and link."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import XsUri
    from cyclonedx.model.license import DisjunctiveLicense

    if "license" not in licence:
        return []
    if licence["license"] != "other":
        return [LicenseFactory().make_from_string(licence["license"])]
    link = licence.get("license_link")
    url = XsUri(link) if link else None
    return [DisjunctiveLicense(name=licence.get("license_name", "other"), url=url)]
