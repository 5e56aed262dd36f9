"""Scans: linear recurrences over time, with gradients, a carried state and a step for one element."""

from eventbook.kernels.scans.linear import linear_scan

__all__ = ["linear_scan"]
