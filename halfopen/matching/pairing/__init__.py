"""Snapshots -> connections with one or two ends: matching and translations."""
