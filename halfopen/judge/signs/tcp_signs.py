"""Predicates over tcp_info and socket timers, shared by the rules and the outlook.

Times of struct tcp_info count from the moment a socket was established; before that they mean nothing.
An end that opened the connection counts its SYN among the bytes that were acknowledged (net/ipv4/tcp_input.c
tcp_snd_una_update), so 1 means that no byte of data was.
"""

from __future__ import annotations

from msgspec import Struct

from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.matching.verdict.traits import TRAITS
from halfopen.model import Collector, Process, Socket, TcpInfo
from halfopen.tcp import State, Timer


class Alone(Struct, frozen=True):
    """The one end of a connection whose other end is not there, its host, and the host that misses it."""

    end: Socket
    host: HostEvidence
    other: HostEvidence
    is_client: bool


def alone(case: Case) -> Alone | None:
    """The end that is left, None where both are there."""
    client, server = case.held.client, case.held.server
    if client is not None and server is None:
        return Alone(client, case.client, case.server, True)
    if server is not None and client is None:
        return Alone(server, case.server, case.client, False)
    return None


def ends(case: Case) -> list[tuple[Socket, HostEvidence]]:
    """The ends that are there, with their hosts, the client's first."""
    pairs = ((case.held.client, case.client), (case.held.server, case.server))
    return [(end, host) for end, host in pairs if end is not None]


def heard_s(end: Socket) -> float | None:
    """Seconds since anything came from the peer, None where the socket is not established yet or does not tell."""
    if end.info is None or end.state in UNTIMED:
        return None
    return min(end.info.last_ack_recv_ms, end.info.last_data_recv_ms) / 1000


def spoke_last(end: Socket, is_server: bool) -> bool | None:
    """Whether this end sent the last data, so that it waits for an answer; None if neither has ever said anything.

    Where both happened in one tick of the kernel's clock, a server is taken to have answered.
    """
    info = end.info
    if info is None or info.bytes_received is None:
        return None
    sent, received = has_sent(info), info.bytes_received > 0
    if not sent or not received:
        return True if sent else False if received else None
    if info.last_data_sent_ms == info.last_data_recv_ms:
        return is_server
    return info.last_data_sent_ms < info.last_data_recv_ms


def has_sent(info: TcpInfo) -> bool | None:
    """Whether the end ever sent data, None where the kernel is too old to tell."""
    counts = [count for count in (info.bytes_sent, info.data_segs_out) if count is not None]
    return any(counts) if counts else None


def never_confirmed(case: Case) -> TcpInfo | None:
    """The client's numbers where all that it ever had from the server is the SYN-ACK of the handshake."""
    client = case.held.client
    if client is None or client.state is not State.ESTABLISHED or client.info is None:
        return None
    info = client.info
    fresh = info.bytes_received == 0 and info.bytes_acked in (0, 1) and info.segs_in is not None
    return info if fresh and not info.data_segs_in else None


def unanswered(end: Socket) -> int:
    """How often this end has sent again, or probed, what nobody answers; 0 if nothing is outstanding.

    A probe of a closed window that is under way is not unanswered yet: each answer sets the count back to 0.
    """
    if end.timer not in (Timer.RETRANSMIT, Timer.KEEPALIVE, Timer.PROBE) or end.retransmits is None:
        return 0
    return 0 if end.timer is Timer.PROBE and end.retransmits < 2 else end.retransmits


def window_closed(end: Socket) -> bool:
    """Whether the peer takes no more bytes and says so: its program does not read."""
    return end.timer is Timer.PROBE and not unanswered(end)


def kept_in(end: Socket, other: Socket | None) -> bool:
    """Whether what an end sends does not leave its host: it probes, though the window of the other end is open.

    Where a packet filter of the host itself drops a segment, the kernel takes it for not sent, and tries again by its
    probe timer (net/ipv4/tcp_output.c tcp_send_probe0). Kernels before 5.4 do not tell the window.
    """
    if end.timer is not Timer.PROBE or not unanswered(end):
        return False
    if end.info is not None and end.info.snd_wnd is not None:
        return end.info.snd_wnd >= max(1, end.info.snd_mss)
    return other is not None and other.recv_q == 0


def quiet_before_s(end: Socket, host: HostEvidence) -> float | None:
    """Seconds of silence before this end last tried to be heard; all of it where it has not tried."""
    heard = heard_s(end)
    tried = probing_s(end, host) if end.timer is Timer.KEEPALIVE else trying_s(end)
    return None if heard is None or tried is None else max(0.0, heard - tried)


def probing_s(end: Socket, host: HostEvidence) -> float | None:
    """Seconds since the first keepalive probe that was never answered, by the host's settings; None if they are not
    those of this socket.
    """
    interval, probes = host.sysctls.get("tcp_keepalive_intvl"), unanswered(end)
    if not probes:
        return 0.0
    if interval is None or end.timer_expires_s is None or end.timer_expires_s > interval:
        return None
    return probes * interval - end.timer_expires_s


def trying_s(end: Socket) -> float:
    """Seconds since the first transmission that was never answered, computed back through the doubling of its timer.

    0 where nothing is sent again, or where it does not tell: see `tells_trying`.
    """
    info, again = end.info, end.retransmits
    if info is None or end.timer is not Timer.RETRANSMIT or not again or end.timer_expires_s is None:
        return 0.0
    first = first_rto_s(info)
    return sum(min(first * (1 << i), MAX_RTO) for i in range(again)) + max(0.0, info.rto_us / 1e6 - end.timer_expires_s)


def tells_trying(end: Socket) -> bool:
    """Whether an end tells what `trying_s` is reckoned from."""
    return end.info is not None and end.timer_expires_s is not None


def first_rto_s(info: TcpInfo) -> float:
    """The timeout before it was doubled: what it is now, halved; where that has reached its limit, that of the path."""
    now = info.rto_us / 1e6
    return max(now / (1 << info.backoff), MIN_RTO) if now < MAX_RTO else MIN_RTO + info.rtt_us / 1e6


def since_boot(alone_heard: float | None, host: HostEvidence) -> bool:
    """Whether this host's counters cover the moment: they have counted for longer than that, or nobody knows."""
    counted_s = host.counts_for_s
    return alone_heard is None or counted_s is None or alone_heard < counted_s + WHOLE_SECOND


def rebooted_s(end: Socket, host: HostEvidence) -> float | None:
    """The uptime of a host that came up after this end had last heard of it, None if it did not or nobody knows."""
    heard = heard_s(end)
    uptime = host.facts.uptime_s if host.facts else None
    if heard is None or uptime is None or heard <= uptime + BOOT_MARGIN:
        return None
    return uptime


def other_end(case: Case, end: Socket) -> tuple[Socket | None, HostEvidence]:
    """The other end, and its host."""
    if end is case.held.client:
        return case.held.server, case.server
    return case.held.client, case.client


def queued(end: Socket | None) -> bool:
    """Whether an end waits in the accept queue: nobody has taken it, so it has no inode."""
    return end is not None and end.inode == 0 and end.state in (State.ESTABLISHED, State.CLOSE_WAIT)


def is_orphan(end: Socket) -> bool:
    """Whether no program holds an end any more: only its kernel is still closing it."""
    return end.inode == 0 and end.state in CLOSING


def nothing_listens(case: Case) -> bool:
    """Whether no LISTEN socket of the server would take this connection; False where listeners were not listed."""
    facts = case.server.facts
    return case.listener is None and facts is not None and facts.collector in (Collector.NETLINK, Collector.PROCFS)


def named(process: Process | None, otherwise: str) -> str:
    """`postgres (pid 812)`."""
    return f"{process.name} (pid {process.pid})" if process else otherwise


def is_missing(case: Case) -> bool:
    """Whether the finding is an end whose peer is not there any more, or never was."""
    return TRAITS[case.held.verdict].peer_missing


def over_old(case: Case) -> Socket | None:
    """The end that asks to connect where the other one is what an earlier connection left (TIME_WAIT); else None."""
    client, server = case.held.client, case.held.server
    if client is None or server is None or State.TIME_WAIT not in (client.state, server.state):
        return None
    return next((socket for socket in (client, server) if socket.state is State.SYN_SENT), None)


def not_answered(case: Case) -> bool | None:
    """Whether nothing came back to an end that asks to connect over an old one; None if that is not known, or no case.

    What is left in TIME_WAIT answers a SYN that it does not take with an acknowledgement (net/ipv4/tcp_minisocks.c
    tcp_timewait_state_process), which counts as a segment of the socket in SYN_SENT.
    """
    dialling = over_old(case)
    if dialling is None or dialling.info is None or dialling.info.segs_in is None:
        return None
    return dialling.info.segs_in == 0


CLOSING = (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK)
UNTIMED = (State.SYN_SENT, State.SYN_RECV, State.TIME_WAIT)
MIN_RTO, MAX_RTO = 0.2, 120.0  # seconds; TCP_RTO_MIN and TCP_RTO_MAX of include/net/tcp.h
WHOLE_SECOND = 1.0  # to which the age of a namespace is rounded down
BOOT_MARGIN = 5.0  # seconds between a kernel's start and its first packet, and what two clocks may differ by
