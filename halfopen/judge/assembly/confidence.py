"""How sure a finding may be at most: by how its hosts were read, and by what lies between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from halfopen.judge.assembly.run_evidence import Evidence, is_by_fallback
from halfopen.judge.confirm.rounds import Confirmed
from halfopen.matching.missing.way import Network, why_unproven
from halfopen.schema.report import Confidence
from halfopen.words import plural


def capped(confirmed: Confirmed, evidence: Evidence, network: Network) -> Confirmed:
    """A finding with its confidence lowered to `observed` where a host was read without exact look-ups, or where it is
    not proven that the tuple leads to where its absent end was looked for; and to what its evidence allows at all.
    """
    if (confirmed.client_place.host, confirmed.server_place.host) in evidence.apart:
        return replace(confirmed, confidence=Confidence.INFERRED)
    if confirmed.confidence is not Confidence.PROVEN:
        return confirmed
    if way_in_doubt(confirmed, network) is not None:
        return replace(confirmed, confidence=Confidence.OBSERVED)
    snapshots = [evidence.snapshots.get(end.host) for end in (confirmed.client_place, confirmed.server_place)]
    if any(snapshot is not None and is_by_fallback(snapshot) for snapshot in snapshots):
        return replace(confirmed, confidence=Confidence.OBSERVED)
    return replace(confirmed, confidence=evidence.at_most)


def way_in_doubt(confirmed: Confirmed, network: Network) -> str | None:
    """Why the tuple of a finding with one end may lead elsewhere, in words; None if it does not, or has both ends."""
    if (confirmed.client is None) == (confirmed.server is None):
        return None
    is_client = confirmed.server is None
    survivor = confirmed.client_place if is_client else confirmed.server_place
    return why_unproven(confirmed.suspect, survivor, is_client, network)


def ways_in_doubt(lasting: Sequence[Confirmed], network: Network) -> tuple[str, ...]:
    """A note for each reason why findings with one end are not proven, though nothing speaks against them."""
    reasons = Counter(
        way_in_doubt(confirmed, network) for confirmed in lasting if confirmed.confidence is Confidence.OBSERVED
    )
    return tuple(
        f"{plural(count, 'finding')} observed, not proven: {reason} (direct = true if it only hands on)"
        for reason, count in reasons.items()
        if reason
    )
