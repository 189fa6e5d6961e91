"""Models on disk: where one comes from, how it is read, how a pruned one is written and proven."""
