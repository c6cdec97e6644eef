"""Half-open connections on this machine, without root, and two embedded SSH servers to look at them through."""
