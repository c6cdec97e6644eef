"""Findings -> the report: sections, headline, outcome and exit status, each computed once."""
