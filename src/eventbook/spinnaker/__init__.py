"""Mapping networks onto SpiNNaker 2: what fits into a core, and in which layout."""

from eventbook.spinnaker.connections import CORE_BYTES, ConnectionList, pack, unpack

__all__ = ["CORE_BYTES", "ConnectionList", "pack", "unpack"]
