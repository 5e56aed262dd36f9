"""Jobs and how they run: engines, locks, processes, progress, one notebook at a time."""
