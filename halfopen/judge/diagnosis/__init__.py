"""Why a connection is as it is, and what becomes of it."""
