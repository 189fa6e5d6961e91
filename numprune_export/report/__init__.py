"""The report of a run: report.json (versioned), its Markdown and HTML pages, and the verdict."""
