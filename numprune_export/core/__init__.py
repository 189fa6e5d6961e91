"""Used by all other packages: errors, settings, the run folder, progress, entry points."""
