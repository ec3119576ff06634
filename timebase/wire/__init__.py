"""Bytes <-> model, pure: what core and plugin say to each other, as schema/protocol.md writes it down.

`bars` and `ticks` are for the core alone, they import numpy; everything else here is also loaded by every plugin and
stays small.
"""
