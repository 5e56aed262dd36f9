"""Execution, claims, stamps, forks and the command line. Knows nothing about any paper."""
