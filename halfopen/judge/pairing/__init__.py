"""Snapshots -> connections with one or two ends: addresses, matching, translations, guesses."""
