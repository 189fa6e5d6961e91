"""Export targets of numprune-export: each writes artifacts for one runtime and runs them."""

from numprune_export.core.telemetry import switch_off

switch_off()
