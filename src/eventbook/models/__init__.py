"""Models of the papers, built on the kernels: what a user would import to train on their own data."""
