"""The contract between the package and the exporters. Importing it costs no torch."""
