"""Notebook pairs, their parameters, stamps and profiles."""
