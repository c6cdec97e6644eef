"""Times of a host's clock, as a report tells them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(seconds: float | None) -> str | None:
    """A time of a host's clock, in seconds since 1970; None where it tells none, or none that there can be."""
    if seconds is None or not 0 < seconds < LAST_MOMENT:
        return None
    told = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


LAST_MOMENT = 1 << 36  # seconds since 1970, in the year 4147
