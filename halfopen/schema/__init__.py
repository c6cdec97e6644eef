"""The public JSON: one module for each kind of document."""
