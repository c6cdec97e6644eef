"""Findings -> the report: advice, sections, headline, outcome and exit status, each computed once."""
