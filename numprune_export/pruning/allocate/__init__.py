"""From scores to a plan: how many units each site keeps, and which. A file per method."""
