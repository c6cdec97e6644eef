"""Why a connection is as it is, how grave that is, and what becomes of it."""
