"""The words for each cause and each outlook: one table for `explain` and the documentation."""

from __future__ import annotations

import msgspec

from halfopen.schema.report import CauseCode, OutlookCode


class About(msgspec.Struct, frozen=True):
    """What `halfopen explain` and the documentation say of a cause. Plain sentences, which name no command to type."""

    meaning: str
    story: str
    evidence: str
    remedy: str


ABOUT: dict[CauseCode, About] = {
    CauseCode.ACCEPT_QUEUE_OVERFLOW: About(
        "The listener's accept queue had no room for the connection when the handshake ended.",
        "The program accepts more slowly than clients connect. The queue holds its backlog plus one: the argument "
        "of listen(), at most net.core.somaxconn. When it is full the kernel drops the client's last ACK. If the "
        "server had answered with a SYN cookie, it keeps no trace: the client is established, the server knows "
        "nothing, and neither will ever learn it. Without a cookie a request socket stays in SYN_RECV, repeats its "
        "SYN-ACK until tcp_synack_retries, and is then forgotten without a RST.",
        "ListenOverflows has grown; the queue is full; the client has had a SYN-ACK and no byte since; with "
        "cookies SyncookiesSent and SyncookiesRecv have grown as well.",
        "Accept in a thread of its own. Raise the backlog, and net.core.somaxconn where that caps it. Leave SYN "
        "cookies on. Let the client speak first or send heartbeats.",
    ),
    CauseCode.SYN_COOKIE_ACK_LOST: About(
        "The server answered with a SYN cookie, and the ACK that brings it back was lost on the way.",
        "A SYN cookie is a handshake without memory: the server keeps nothing, so it cannot repeat its SYN-ACK, "
        "and only the client's ACK can create the connection. If that is lost and the client then waits for the "
        "server to speak, nothing ever repairs it. A byte from the client within two minutes does.",
        "The client has had one SYN-ACK and nothing since; SyncookiesSent is more than SyncookiesRecv; the accept "
        "queue is not full.",
        "Find what drops the ACK. Let the client speak first. Give the listener a backlog that does not need "
        "cookies, and do not set tcp_syncookies to 2.",
    ),
    CauseCode.FINAL_ACK_LOST: About(
        "The last ACK of the handshake does not reach the server, however often it is repeated.",
        "The server waits in SYN_RECV and repeats its SYN-ACK; the client, established since the first, answers "
        "each. Something between drops these bare ACKs. After tcp_synack_retries (63 s by default) the server "
        "forgets the connection without a RST.",
        "The server has repeated its SYN-ACK, the client has received it more than once, the accept queue has "
        "room and ListenOverflows did not grow.",
        "Find what drops the ACK: a stateful firewall that saw one direction only, or a filter of small packets. "
        "Let the client speak first.",
    ),
    CauseCode.DEFERRED_ACCEPT: About(
        "The listener has TCP_DEFER_ACCEPT: it waits for the client's first byte before it makes a connection.",
        "With this option the kernel ignores the bare ACK of the handshake and leaves the connection in SYN_RECV "
        "until data comes or the deferral ends. It looks like an overflow but is not one.",
        "TCPDeferAcceptDrop has grown, the accept queue has room, the client has sent nothing, and the SYN-ACK "
        "is not repeated, as it would be if the ACK were lost.",
        "Nothing, unless the client waits for the server to speak first: then take the option off the listener.",
    ),
    CauseCode.PEER_REBOOTED: About(
        "The host that misses the connection has restarted since the other end last heard of it.",
        "A host that crashes or loses power sends neither FIN nor RST. When it is up again it knows none of its "
        "old connections, and answers with RST only when it is spoken to. An end that only reads waits for ever.",
        "The uptime of the host is shorter than the time since the other end last heard anything.",
        "Let the end that waits probe: SO_KEEPALIVE, TCP_USER_TIMEOUT or a heartbeat. Or end it: the report has "
        "the command.",
    ),
    CauseCode.PEER_VANISHED: About(
        "The other end is gone and said nothing, though its host has been up all the time.",
        "A container or virtual machine that was removed, moved or failed over takes its sockets with it; an "
        "address that moved to another machine leaves them behind. No FIN and no RST was ever sent.",
        "The host has been up for longer than the silence, and nothing listens there any more; or it dropped "
        "established connections (EstabResets) without sending a single RST (OutRsts); or the program that listens "
        "there began after the silence did; or another host of the check still has sockets with that address.",
        "Let the end that is left probe: keepalive, TCP_USER_TIMEOUT or a heartbeat. Let failovers reset what they "
        "leave.",
    ),
    CauseCode.RESET_LOST: About(
        "The other end ended the connection with RST, and the RST was lost on the way.",
        "A RST is sent once and never repeated. A firewall that has forgotten the connection, or calls the RST "
        "invalid, drops it, and the other end still takes the connection for open.",
        "The host that misses the connection has sent RSTs (OutRsts) and dropped established connections "
        "(EstabResets); surest where OutRsts grows while the other end sends and hears nothing. The counters are "
        "of the whole host since it, or its network namespace, began: they must be enough for all such findings, "
        "and where they merely fit, another cause may be named beside it.",
        "Let RSTs pass the firewall. Let the end that is left probe: keepalive or a heartbeat.",
    ),
    CauseCode.MIDDLEBOX_FORGOT: About(
        "A box between the hosts may have forgotten the connection while it was idle.",
        "Firewalls, NAT and load balancers keep a table of connections and drop what has been idle for too long, "
        "mostly without a RST to either side. What either end sends after that is dropped; the end that tries "
        "gives up, and the one that only reads never learns.",
        "The connection was silent beyond a well-known limit (240, 350, 900 or 3600 s) or the conntrack timeout of "
        "one of the hosts, and no keepalive timer runs. It can only fit, never be proven from the two hosts: a "
        "look at the box decides.",
        "SO_KEEPALIVE with TCP_KEEPIDLE well below the limit on either end, or a heartbeat. TCP_USER_TIMEOUT, so "
        "that a write fails in a minute and not after fifteen.",
    ),
    CauseCode.PATH_DEAD: About(
        "Packets of this connection do not get through, though both hosts are alive.",
        "Both hosts answered over SSH, and what one of them sends on this connection is never answered: a route, "
        "a packet filter, a link or a forgotten state drops it, in one direction or both. The sender doubles its "
        "wait each time and gives up after tcp_retries2, about fifteen minutes by default.",
        "A retransmission or keepalive timer that has run more than once, and nothing heard since; SYN-ACKs that "
        "are repeated and not received. An end that probes although the window of the other is open is held back by "
        "its own host: the OUTPUT chain of its packet filter. Where it is over, TCPAbortOnTimeout of the host that "
        "gave up, which only fits: it counts all connections of the host.",
        "Look at the way between the addresses of the connection. TCP_USER_TIMEOUT lets a write fail sooner.",
    ),
    CauseCode.APPLICATION_NOT_ACCEPTING: About(
        "The program listens and does not take the connection from its accept queue.",
        "The kernel finishes the handshake by itself and puts the connection into the accept queue, where it is "
        "ESTABLISHED, takes data, and belongs to no program. lsof, netstat -p and /proc/PID/fd do not show it.",
        "The server's socket has no inode and stayed in the queue of its listener throughout the look, of which "
        "nothing was accepted meanwhile. Whether the program is stopped (state T) is read too.",
        "Continue a program that is stopped. See what it does instead of accepting. Accept in a thread of its own.",
    ),
    CauseCode.APPLICATION_NOT_CLOSING: About(
        "The program has been told that the other end is done, and does not close its side.",
        "A FIN has arrived: reads return 0. Until the program closes, the socket stays in CLOSE_WAIT, without any "
        "timer, for as long as the program lives. The other end forgets it after tcp_fin_timeout.",
        "An end in CLOSE_WAIT that a program holds, throughout the look. Where the other end is still in "
        "FIN_WAIT2 it may be meant: a protocol may go on sending one way.",
        "Close when a read returns 0. Restart the program to be rid of what has leaked.",
    ),
    CauseCode.APPLICATION_NOT_READING: About(
        "The program at the other end does not read, so data and the FIN behind it wait for room.",
        "A receiver whose buffer is full closes its window. The sender probes, each probe is answered, and "
        "nothing moves. That is a slow or stuck program, not a dead path.",
        "A zero-window probe that is answered at one end, unread bytes at the other.",
        "See what the program does instead of reading.",
    ),
    CauseCode.CONNECTION_REFUSED_SILENTLY: About(
        "The client's SYN is dropped, and no RST rejects it.",
        "A host that does not want a connection answers with RST, and the client fails at once. Here a packet "
        "filter drops the SYN or the RST, so that the client tries for two minutes and learns nothing.",
        "The client has sent its SYN more than once without an answer, the server's host is alive, and the accept "
        "queue has room or nothing listens at all.",
        "Find the rule and let it reject instead of drop. Start what should listen. Shorten the connect timeout.",
    ),
    CauseCode.TUPLE_REUSED: About(
        "The two ends belong to different connections with the same addresses and ports.",
        "One end never learned that its connection was over, and the other has begun a new one from the same "
        "port. Their states, or their byte counts, cannot both be true of one connection.",
        "The pair of states: an established end has sent no FIN and received none, and the other end says that it "
        "has; or what an old connection left behind (TIME_WAIT) answers a SYN and does not take it.",
        "End the older one: the report has the command. Keepalive, so that it ends by itself. No fixed client ports.",
    ),
    CauseCode.UNKNOWN: About(
        "The evidence of the two hosts does not decide.",
        "Every rule that could explain the finding lacked what it rests on, so none of them guessed.",
        "Nothing: the report says what would decide, such as a counter, TCP_INFO, or a capture on both hosts at once.",
        "Get that evidence, then look again.",
    ),
}

OUTLOOKS: dict[OutlookCode, str] = {
    OutlookCode.HEALS: "A timer that runs ends it or mends it, within the seconds that are given if the settings of "
    "the host hold; a program's own timeouts can only make it sooner.",
    OutlookCode.FAILS_ON_WRITE: "Nothing happens while the program reads; when it writes next, it gets an error.",
    OutlookCode.NEVER: "No timer runs and the program only waits: it stays until somebody acts.",
    OutlookCode.UNKNOWN: "What the end depends on cannot be seen in the two kernels.",
}
