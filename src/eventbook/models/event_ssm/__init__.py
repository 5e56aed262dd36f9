"""Event-by-event state-space models (Schoene et al., arXiv:2404.18508)."""
