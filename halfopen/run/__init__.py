"""A run: hosts or files that answer the questions of an inquiry, and what of it is saved."""
