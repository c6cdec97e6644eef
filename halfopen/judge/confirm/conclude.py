"""The matching of a check once all that can be read was read.

What deals with missing ends is imported only where something is suspect, because most runs have no suspect and its
import would cost a clean pair a tenth of its time.
"""

from __future__ import annotations

from halfopen.judge.pairing.match import Matching
from halfopen.judge.pairing.pair import Prepared


def conclude(check: Prepared, matching: Matching) -> Matching:
    """The matching with what no table explains inferred, or doubted."""
    if not matching.suspects:
        return matching
    from halfopen.judge.confirm.doubt import doubted
    from halfopen.judge.pairing.guess import infer

    return doubted(check, infer(check.address_map(), matching))
