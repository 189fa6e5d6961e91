"""What every room uses: errors, settings, the run folder, progress, entry points."""
