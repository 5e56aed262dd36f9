"""Execution, claims, stamps, forks and the command line. Knows nothing about any paper.

Rooms, each of which imports only from those above it
-----------------------------------------------------
project      where things are, above errors, files and yaml_lines
notebooks    pairs, their parameters, stamps and profiles
execution    jobs, and how they run
ledger       claims, and the values that decide them
book         tables, figures and pages
variants     forks and sweeps
checks       what can be told without running anything; doctor asks more, cli is what a person types

`notebook` is the door for chapters: what their cells import.
"""
