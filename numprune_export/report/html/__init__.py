"""A report as one self-contained page: no script, nothing fetched, made of the report alone."""
