"""eventbook: an executable companion to ten papers on event-based, sparse, local and asynchronous learning.

Rooms
-----
kernels     Numba kernels, each beside a slow reference twin; imports nothing else of the package. Its rooms:
            scans (linear, event-driven and selective recurrences), events (products that skip silence, EGRU),
            encoders (images and signals to events), rewiring (sparse layers that move), machinery (what they
            share).
learning    optimisers and training, a room per idea: rewiring; imports kernels.
spinnaker   mapping onto SpiNNaker 2: what fits into a core, and in which layout.
datasets    loaders for real data, each file checked against a manifest.
companion   execution, claims, stamps, forks and the command line; knows nothing about any paper.
"""

__version__ = "0.1.0"
