"""Forks and sweeps of a chapter, and the pages that set them beside the original."""
