"""Render a report as one self-contained HTML page: no scripts, no external resources."""
