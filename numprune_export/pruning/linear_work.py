"""The work of solving for a site, for progress."""

from numprune_export.models.site import Site


def work_of(site: Site) -> int:
    """Operations of eliminating the consumer's inputs, in units of 2²⁰, at least 1."""
    return max(1, site.inputs**3 >> 20)
