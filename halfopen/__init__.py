"""halfopen: finds TCP connections that the two hosts at their ends disagree about."""

__version__ = "0.1.0"
