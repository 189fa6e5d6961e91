"""From statistics to a smaller model: score, allocate, compensate, rewrite."""
