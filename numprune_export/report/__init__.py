"""What a run measured, as a versioned file and as a page that a person reads."""
