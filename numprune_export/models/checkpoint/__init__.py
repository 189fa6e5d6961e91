"""Models on disk: locating, loading, saving, and the proof that a saved model reloads."""
