"""Bytes <-> model, pure: what core and plugin say to each other, as schema/protocol.md writes it down.

`bars` is for the core alone, it imports numpy; everything else here is also loaded by every plugin and stays small.
"""
