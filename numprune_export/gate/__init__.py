"""The gate: a report against limits, and against the report of an earlier run."""
