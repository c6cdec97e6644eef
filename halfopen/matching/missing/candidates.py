"""Sockets that could be the missing end of a connection, behind something on the way that no table tells of.

A box that translates leaves the bytes as they are, a proxy may change them, and both hand on at once what they get. So
the other end of a survivor, wherever it is, sent its last data about when the survivor received its last, and the other
way round. Without data both ages count from the handshake (net/ipv4/tcp_input.c tcp_finish_connect, tcp_minisocks.c
tcp_create_openreq_child set lsndtime), which the two ends of a connection have in common too.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.verdict.table import THE_TABLE
from halfopen.model import Absence, NetnsRef, Observation, Socket, TcpInfo
from halfopen.schema.report import Reason, Verdict


class Candidate(Struct, frozen=True):
    """A socket that could be the missing end of a suspect, and where it is; None if it could not be read."""

    netns: NetnsRef
    key: bytes
    socket: Socket | None


def candidate_of(
    suspect: Suspect, survivor: Observation, seen: Mapping[tuple[NetnsRef, bytes], Observation]
) -> Candidate | None:
    """The first of the stand-ins of a suspect that could be its missing end, if one could. seen: what was found."""
    if not isinstance(survivor, Socket):
        return None
    for standin in suspect.standins:
        for netns in standin.places:
            other = seen.get((netns, standin.key), Absence.UNSEEN)
            if could_be(survivor, other) and passes_bytes(suspect, survivor, other):
                return Candidate(netns, standin.key, other if isinstance(other, Socket) else None)
    return None


def could_be(survivor: Socket, other: Observation) -> bool:
    """Whether a socket could be the other end of a survivor, by state, age and bytes, as far as these are known."""
    if not isinstance(other, Socket):
        return other is Absence.UNSEEN
    if THE_TABLE[survivor.state, other.state] is Verdict.DESYNCHRONIZED:
        return False
    if survivor.info is None or other.info is None:
        return True
    return hands_on(survivor.info, other.info) and hands_on(other.info, survivor.info)


def passes_bytes(suspect: Suspect, survivor: Socket, other: Observation) -> bool:
    """Whether the byte counters of a stand-in are those that the way allows: a translation leaves bytes as they are."""
    if suspect.reason is Reason.TRANSLATION_GONE:
        return same_bytes(survivor, other) is not False
    return not suspect.to_the_byte or fits(survivor, other)


def fits(socket: Socket, other: Observation) -> bool:
    """Whether two sockets have exchanged data, and the same, by their byte counters: False if they do not tell."""
    if not same_bytes(socket, other) or not isinstance(other, Socket):
        return False
    return any(end.info is not None and end.info.bytes_received for end in (socket, other))


def same_bytes(socket: Socket, other: Observation) -> bool | None:
    """Whether two sockets have exchanged the same data, by their byte counters; None if these do not tell.

    What either has received lies between what the other has had acknowledged and what it has sent. The SYN of the end
    that connected, and a FIN, count as acknowledged bytes (net/ipv4/tcp_input.c tcp_snd_una_update).
    """
    if not isinstance(other, Socket):
        return None
    for sender, receiver in ((socket.info, other.info), (other.info, socket.info)):
        if sender is None or receiver is None or sender.bytes_acked is None or receiver.bytes_received is None:
            return None
        if receiver.bytes_received + 2 < sender.bytes_acked:
            return False
        if sender.bytes_sent is not None and receiver.bytes_received > sender.bytes_sent:
            return False
    return True


def hands_on(sender: TcpInfo, receiver: TcpInfo) -> bool:
    """Whether what one end sent could be what the other has received, perhaps changed on the way, and when."""
    # The SYN of the end that connected, and a FIN, count as acknowledged bytes (tcp_snd_una_update).
    if receiver.bytes_received == 0 and (sender.bytes_acked or 0) > 2:
        return False
    if receiver.bytes_received and sender.bytes_sent == 0:
        return False
    slack = COINCIDENCE_MS + (sender.rtt_us + receiver.rtt_us) // 1000
    return abs(sender.last_data_sent_ms - receiver.last_data_recv_ms) <= slack


COINCIDENCE_MS = 1500  # what the ages of two ends may differ by, beside their round trips
