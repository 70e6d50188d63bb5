"""Records in, numbers out: pure functions, one definition of each metric. Missing is None, never 0."""
