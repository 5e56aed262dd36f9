"""eventbook: an executable companion to ten papers on event-based, sparse, local and asynchronous learning.

Rooms
-----
kernels     Numba kernels, each beside a slow reference twin; imports nothing else of the package.
learning    optimisers, rewiring, pruning and their baselines; imports kernels.
datasets    loaders for real data, checked against ``data/manifest.yml``.
companion   execution, claims, stamps, forks and the command line; knows nothing about any paper.
"""

__version__ = "0.1.0"
