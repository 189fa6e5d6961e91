"""Provenance of model folders and artifacts: manifests, model card, SBOM, verification."""
