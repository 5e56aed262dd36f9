"""Calls into other packages that fill a file. No benchmarks themselves: `make bench` runs what lies above."""
