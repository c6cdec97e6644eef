"""The words for each verdict, confidence and reason: one table for reports, `explain` and the documentation.

Those for causes and outlooks stand in `causes`, which no check reads.
"""

from __future__ import annotations

import msgspec

from halfopen.schema.report import Confidence, Reason, Verdict


class Meaning(msgspec.Struct, frozen=True):
    """The words for one verdict.

    clause: what it says of the two hosts, in one clause; {client} and {server} stand for their names.
    counted: the words after a number of connections in a headline, for one connection and for several.
    says, arises, next: what it means, how it comes about, what to look at next. beside: what decides it beside the
    states of the two ends, if anything does. Plain sentences; a word in backquotes is typed or printed as it stands.
    """

    clause: str
    counted: tuple[str, str]
    says: str
    arises: tuple[str, ...]
    next: tuple[str, ...]
    beside: str | None = None


MEANINGS: dict[Verdict, Meaning] = {
    Verdict.MISSING_ON_SERVER: Meaning(
        "established on {client}, unknown to {server}",
        ("missing on the server", "missing on the server"),
        "The client's kernel has an established connection, and the server's kernel has no socket for it. A client "
        "that only waits to be spoken to waits for ever. One that writes gets a reset, or retransmits until it gives "
        "up if something drops the reset.",
        (
            "The accept queue was full when the last ACK of a handshake with a SYN cookie came: the server drops it, "
            "keeps nothing, and tells nobody.",
            "The server closed or reset the connection and the packet was lost to a firewall or a dead link.",
            "The server rebooted, or was replaced behind the same address.",
        ),
        (
            "The listener in the report: is its accept queue full? `ListenOverflows` and `SyncookiesSent` of the "
            "server are in the JSON report.",
            "`uptime_s` of the server against `idle_s` of the client: a server younger than the silence was rebooted.",
            "Firewalls and load balancers between the two that forget idle connections.",
            "Whether the program on the client sets SO_KEEPALIVE: without it, and without writing, nothing ends it.",
        ),
    ),
    Verdict.MISSING_ON_CLIENT: Meaning(
        "established on {server}, unknown to {client}",
        ("missing on the client", "missing on the client"),
        "The server's kernel has an established connection, and the client's kernel has no socket for it. It holds a "
        "process, a thread or a slot of a pool on the server for a client that is gone.",
        (
            "The client lost power, rebooted, or its container or virtual machine was removed.",
            "The client closed or reset the connection and the packets were lost.",
            "A middlebox forgot the connection, and dropped what the client sent to end it.",
        ),
        (
            "`uptime_s` of the client against `idle_s` of the server's end.",
            "Whether the server's program sets SO_KEEPALIVE (`timer` is `keepalive`), and `tcp_keepalive_time`: two "
            "hours by default.",
        ),
    ),
    Verdict.HANDSHAKE_STUCK: Meaning(
        "established on {client}, still in the handshake on {server}",
        ("stuck in the handshake on the server", "stuck in the handshake on the server"),
        "The client takes the connection for established; the server is still in the handshake and holds a request "
        "socket only. The server sends its SYN-ACK again a few times and then forgets the request without a word. "
        "Where the listener defers (cause `deferred-accept`) that is by design, and the finding is info.",
        (
            "The accept queue is full: the server drops the client's ACK and hopes for a later one.",
            "The listener defers accepting until data comes (TCP_DEFER_ACCEPT) and the client waits to be spoken to: "
            "by design, for a while.",
            "The client's last ACK is lost on the way each time.",
        ),
        (
            "The listener in the report: is its accept queue full, and does its program accept?",
            "`TCPDeferAcceptDrop` of the server: it grows where accepting is deferred.",
            "A firewall that lets SYNs pass and drops what follows.",
        ),
    ),
    Verdict.DESYNCHRONIZED: Meaning(
        "the ends on {client} and {server} cannot belong to one connection",
        ("with ends that contradict each other", "with ends that contradict each other"),
        "Both ends have a socket, in states that one connection cannot have at its two ends for long. Or both are "
        "ESTABLISHED, and one has had more bytes acknowledged than the other received, or has received more than the "
        "other wrote. They belong to two lives of the same addresses and ports, or one end missed what the other did.",
        (
            "The client's host lost its sockets and dials again from the same port, while the server has the old "
            "connection still.",
            "One end acknowledged the close of the other and then lost it: its state was restored, or a middlebox "
            "answered in its name.",
            "An address moved to another host and back (a failover), and each end made its connection with whoever had "
            "the address of the other at that time.",
        ),
        (
            "Reboots, failovers and restored snapshots of one of the hosts.",
            "Clients that bind a fixed local port.",
            "Proxies and firewalls that answer for others.",
        ),
    ),
    Verdict.STALLED: Meaning(
        "established on {client} and {server}, but what one of them sends gets no answer",
        ("stalled without an answer", "stalled without an answer"),
        "Both ends are established, but what one of them sends gets no answer. Either its data stays unacknowledged, "
        "and it retransmits ever more slowly, or it sends keepalive probes in vain, by itself or because of `--ask`.",
        (
            "The path loses all packets in one direction, or all packets above a certain size.",
            "A firewall forgot the connection and drops its packets.",
        ),
        (
            "`retransmits`, `send_q` and `timer` of the end that sends; `asked`.",
            "The path MTU, and firewalls between the two.",
        ),
        "Both ends are ESTABLISHED, and no pair of states shows it: data or a keepalive probe was sent again three "
        "times or more, nothing was acknowledged from the first round to the last, and the other end could take it. A "
        "program that does not read (a closed window) is no stall, as long as its kernel answers the probes. Or the "
        "pair was silent, and three keepalive probes of `--ask idle` had no answer.",
    ),
    Verdict.NEVER_ACCEPTED: Meaning(
        "established on both ends, but the program on {server} has not accepted it",
        ("was never accepted", "were never accepted"),
        "The handshake is complete and both kernels agree, but the server's program has not taken the connection from "
        "the accept queue. It has no descriptor and no process, so `lsof` on the server does not show it.",
        (
            "The program is busy, blocked or stopped, and does not call accept().",
            "Connections come faster than one thread accepts them.",
            "A burst came a moment ago. What is accepted between two looks is no finding; a longer `--settle` waits "
            "for more.",
        ),
        (
            "The listener in the report: its process, its queue and its backlog. A queue holds one more than its "
            "backlog.",
            "What that process is doing: a stack dump of its runtime, or as root `cat /proc/PID/stack`.",
            "`somaxconn`, which caps the backlog that a program asks for.",
        ),
        "Both ends are ESTABLISHED, and the kernel gives the server's socket no inode: nobody has accepted it. Where "
        "one that waited in the same queue is accepted meanwhile, it is no finding. Where the queue is full and stands "
        "still while clients are turned away, it is critical.",
    ),
    Verdict.HALF_CLOSED: Meaning(
        "one end has closed and the other, told so, has not",
        ("is half-closed", "are half-closed"),
        "One end has closed its side. The other was told (CLOSE_WAIT) and has not closed its own. This is legal, and "
        "protocols use it for a moment; where it lasts, a program has most likely forgotten to close.",
        (
            "The program at the end in CLOSE_WAIT does not read the end of file, or does not close after it.",
            "The protocol works so: one side has sent all it has and waits for a long answer.",
            "The server's program has not accepted the connection, and the client gave up meanwhile.",
        ),
        (
            "The program at the end in CLOSE_WAIT.",
            "How long: a few seconds are normal, hours are a leak. A check may tolerate it with `allow` or `max`.",
        ),
    ),
    Verdict.ABANDONED_CLOSE: Meaning(
        "one end waits for its program to close, and the other is gone",
        ("was left in CLOSE_WAIT by a peer that is gone", "were left in CLOSE_WAIT by a peer that is gone"),
        "One end waits in CLOSE_WAIT for its own program to close, and the other end is gone. Without "
        "keepalive no timer ends CLOSE_WAIT: it holds a descriptor until the program closes it or ends.",
        (
            "The other end closed, waited for `tcp_fin_timeout` (60 s by default) as an orphan, and was dropped.",
            "The other host went away after it had closed.",
        ),
        (
            "The program at the end in CLOSE_WAIT: it does not close. The number of these grows until it runs out of "
            "descriptors.",
        ),
    ),
    Verdict.CLOSE_LOST: Meaning(
        "one end has closed, and the other does not learn of it",
        ("cannot close: its FIN has not arrived", "cannot close: their FINs have not arrived"),
        "One end has closed and sends its FIN again and again, or the FIN waits behind data that the other does not "
        "read. The other does not learn of it and still takes the connection for open.",
        (
            "The program at the other end does not read, and its window is closed.",
            "A firewall forgot the connection, or drops packets in one direction.",
            "The route from the one to the other is gone.",
        ),
        (
            "`retransmits` and `timer_expires_s` of the end that closes: retries go on until `tcp_orphan_retries` or "
            "`tcp_retries2` is used up, and then the other end is alone.",
            "Whether other connections between the two hosts get through.",
        ),
    ),
    Verdict.CONNECT_UNANSWERED: Meaning(
        "one end asks to connect and gets no answer",
        ("gets no answer to its SYN", "get no answer to their SYN"),
        "A client has sent its SYN and gets no answer that it takes. Where the listener's accept queue is full and "
        "stands still, it is critical.",
        (
            "A firewall drops the SYN, or the SYN-ACK on its way back.",
            "The accept queue of the listener is full, and the server drops new SYNs.",
            "Nobody listens there, and a firewall eats the reset that would say so.",
        ),
        (
            "The listener in the report, and whether its queue is full.",
            "`ListenDrops` and `TCPReqQFullDrop` of the server.",
            "If the server's end is SYN_RECV, the SYN arrives and the answer is lost.",
        ),
    ),
    Verdict.CLOSING_ALONE: Meaning(
        "one end closes towards a peer that is gone",
        ("closes towards a peer that is gone", "close towards a peer that is gone"),
        "One end is closing, and the other end is gone already. Its kernel gives up by itself, unless its program "
        "keeps a socket in FIN_WAIT2 open.",
        (
            "The peer vanished before the close was through, or its last packet was lost.",
            "The peer answers nothing because a firewall drops what comes.",
        ),
        (
            "Nothing, if these are few. If they are many, look where the peers went.",
            "A socket in FIN_WAIT2 that a program still holds has no timer: that program keeps it.",
        ),
    ),
    Verdict.EMBRYONIC: Meaning(
        "{server} waits for the handshake of a client that is gone",
        ("waits in SYN_RECV for a client that is gone", "wait in SYN_RECV for clients that are gone"),
        "The server waits in SYN_RECV for the last ACK of a handshake, and the client has no such socket.",
        (
            "The client gave up while it was connecting, and the reset was lost.",
            "Somebody sends SYNs in the client's name: a scan or a SYN flood.",
        ),
        (
            "Nothing, if these are few: they end by themselves after `tcp_synack_retries`.",
            "If they are many, `SyncookiesSent` and where the SYNs come from.",
        ),
    ),
    Verdict.AMBIGUOUS: Meaning(
        "more than two sockets claim this connection",
        ("cannot be told apart", "cannot be told apart"),
        "More than two sockets, or hosts, claim to be the ends of this connection, so nothing is said of any of them.",
        (
            "Two hosts of the check have the same address, and both have a socket with these addresses and ports.",
            "Two hosts of the check say that they have one address (anycast, a service address on the loopback of "
            "several servers, a duplicate), so that the word of one of them would decide what the connection is.",
        ),
        (
            "Which host owns the address. Compare the two that share it in two checks of their own.",
            "`addresses` in the inventory: an address that leads to one host only must stand at that host only.",
        ),
        "Not the states decide but the number of sockets, or of hosts: in every round, more than one answered for one "
        "end, or several hosts have its address.",
    ),
}

CONFIDENCES: dict[Confidence, str] = {
    Confidence.PROVEN: "The finding held in two or more rounds. In each, the end that is there was looked up before "
    "and after the look at the other end, and was the same kernel socket (same cookie) in the same state. So what is "
    "said of the two hosts was true of both at one moment, and it lasted.",
    Confidence.OBSERVED: "The rounds agree, but the identity of a socket is not proven: a host gave no cookies "
    "(sockets read from /proc/net/tcp, or from pasted text), so it rests on addresses, ports and, where there is one, "
    "the inode.",
    Confidence.INFERRED: "One moment only (`--rounds 1`, or one moment of each host in files), so nothing shows that "
    "it lasts; or files that were not taken at the same time; or a translation on the way was guessed, because no "
    "table that was read says what translates there.",
}

REASONS: dict[Reason, str] = {
    Reason.ANSWERED_ELSEWHERE: "One end is there, the host of the other end has no such socket, and yet somebody "
    "answered between the first look and the last: bytes were acknowledged or received, or an acknowledgement or a "
    "probe came in. So the connection has another end somewhere: a proxy or sidecar on the way, NAT, or another host "
    "with that address. Name the box that translates under `nat`, check against the proxy instead, or allow it where "
    "it is by design.",
    Reason.CHANGING: "It had one verdict in one round and another in a later one, and none of them cleared it. An end "
    "of it is the same socket throughout, so that it is still the same connection, of which nothing lasted long enough "
    "to be said. Look again: what is only on its way from one state to the next agrees by then.",
    Reason.TRANSLATION_GONE: "A host of the check has translated the connection (one under `nat`, or one with "
    "containers), and its entry in connection tracking is gone: it expired, or the table was flushed. The other host "
    "has sockets that fit by state, age and bytes, so both ends may live, and nothing says which belong together. A "
    "connection of which no socket fits is a finding, with the cause `middlebox-forgot`.",
    Reason.NAMESPACE_NOT_ENTERED: "The host that should have the other end has network namespaces that could not be "
    "looked into, and it may be in one of them. Without root none but that of the login is (`sudo = true`). As root, "
    "those are left that no process which is seen from there is in: where SSH leads into a container, or a thread or a "
    "descriptor alone holds one. A note names the links that lead to them; log in on the host itself.",
    Reason.ROW_DAMAGED: "The evidence of the host that should have the other end has rows that could not be read, or "
    "is cut off: the end may stand there. Take it again, whole.",
    Reason.NOT_SHOWN_BY_SOURCE: "What was read of the host that should have the other end does not show all that is "
    "there: `lsof` shows no socket without a descriptor, a filter hides some, a look-up failed or what translates on "
    "the way could not be read. `halfopen doctor` says what a better source needs.",
    Reason.TOO_MANY_SUSPECTS: "There were more suspects than `--max-suspects` allows to be looked at.",
    Reason.CLAIMED_TWICE: "Two hosts of the check claim one of its addresses, so it is not known which of their "
    "sockets are its ends. Remove the address from one of them, or leave that host out.",
}
