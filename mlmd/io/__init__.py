"""Files: structures (read with suspicion) and trajectories (lazy, in chunks)."""
