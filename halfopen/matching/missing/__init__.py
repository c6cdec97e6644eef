"""An end that is not there: where it may be all the same, and what stands on the way to it."""
