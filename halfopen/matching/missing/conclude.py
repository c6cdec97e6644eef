"""The matching of a check once all that can be read was read.

What deals with missing ends is imported only where something is suspect, because most runs have no suspect and its
import would cost a clean pair a tenth of its time.
"""

from __future__ import annotations

from collections.abc import Mapping

from halfopen.matching.pairing.match import Matching
from halfopen.matching.pairing.pair import Prepared
from halfopen.model import NetnsRef, Routing


def conclude(check: Prepared, matching: Matching, routing: Mapping[NetnsRef, Routing]) -> Matching:
    """The matching with what no table explains inferred, or doubted. routing: the routes of lone ends."""
    if not matching.suspects:
        return matching
    from halfopen.matching.missing.doubt import doubted
    from halfopen.matching.missing.guess import infer
    from halfopen.matching.missing.way import Network

    return doubted(Network(check.plan, check.snapshots, routing), infer(check.address_map(), matching))
