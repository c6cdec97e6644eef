"""Bytes of the probe -> snapshots."""
