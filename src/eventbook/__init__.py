"""eventbook: an executable companion to ten papers on event-based, sparse, local and asynchronous learning.

Rooms
-----
kernels     Numba kernels, each beside a slow reference twin; imports nothing else of the package. Its rooms:
            scans (linear, event-driven and selective recurrences), events (products that skip silence, EGRU),
            encoders (images and signals to events).
learning    optimisers, rewiring, pruning and their baselines; imports kernels.
datasets    loaders for real data, checked against ``data/manifest.yml``.
companion   execution, claims, stamps, forks and the command line; knows nothing about any paper.
"""

__version__ = "0.1.0"
