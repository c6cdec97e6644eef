"""Why a connection is as it is, what becomes of it, and what to do."""
