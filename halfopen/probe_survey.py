"""What `count` and `doctor` ask of a host beside a check: sent in front of probe.py when they ask, and only then.

Both files become one module on the host, so what is used here without being defined here stands in probe.py. Its rules
hold: Python 3.6, standard library, no process started, nothing changed. This is the only code that walks the
descriptors of all processes without being told what to look for, once, because the user asked who holds what.
"""

EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"
GROUP_LIMIT = 65536  # groups of a count; beyond it, ports are no longer told apart
KEPT_LIMIT = 64 << 20  # bytes of a dump, half a million sockets
NETFILTER, CT_GET_STATS = 12, 1 << 8 | 5


def holders(pids):
    """Sockets of processes: inode -> pid of its first descriptor; inode -> pids of all, where it has several; and how
    many processes were closed to us. A descriptor that closes meanwhile is none."""
    first, all_of, unreadable = {}, {}, 0
    for pid in pids:
        folder = "/proc/%d/fd/" % pid
        try:
            for descriptor in os.listdir(folder):
                try:
                    target = os.readlink(folder + descriptor)
                except FileNotFoundError:
                    continue
                if not target.startswith("socket:["):
                    continue
                inode = int(target[8:-1])
                if inode in first:
                    all_of.setdefault(inode, [first[inode]]).append(pid)
                else:
                    first[inode] = pid
        except OSError as error:
            unreadable += error.errno in (1, 13)
    return first, all_of, unreadable


def tcp_rows(netlink, ports):
    """Every inet_diag_msg of a dump (72 bytes) with one of `ports` on either side, listeners before connections.

    Datagrams are kept until the kernel has no more, or up to a limit: between pauses of its reader it may skip rows.
    """
    seen, kept, size = set(), [], 0
    for data in diag_dumps(netlink, ports) if netlink else proc_rows(ports):
        kept.append(bytes(data))
        size += len(data)
        if size > KEPT_LIMIT:
            for row in rows_of(kept, ports, None if netlink else seen):
                yield row
            kept, size = [], 0
    for row in rows_of(kept, ports, None if netlink else seen):
        yield row


def rows_of(datagrams, ports, seen):
    """Rows of datagrams; where `seen` is a set, each only once, because /proc may give a row twice."""
    for data in datagrams:
        for at, _ in messages(data):
            row = data[at + 16 : at + ROW]
            if ports and not set(struct.unpack_from(">HH", row, 4)) & set(ports):
                continue
            if seen is not None:
                mark = row[4:40] + row[68:]  # ports, addresses and inode
                if mark in seen:
                    continue
                seen.add(mark)
            yield row


def counted(netlink, payload):
    """Sockets by who holds them, port and state: `listener`, `group` and `process` fields.

    Asked: a pid (0 for all), then ports. The one walk over descriptors comes first, so that every row can be put into
    its group as it comes and no table of rows is kept. A group's port is the local one of what came in, and the peer's
    of what went out.
    """
    pid = struct.unpack_from(">I", payload)[0]
    ports = struct.unpack_from(">%dH" % ((len(payload) - 4) // 2), payload, 4)
    if pid and not os.path.isdir("/proc/%d" % pid):
        return [("no-such-process", b"")]
    asked = [pid] if pid else running()
    elsewhere = network_namespaces(asked)[0] - network_namespaces(["self"])[0]
    first, all_of, unreadable = holders(asked)
    low, high = [int(part) for part in (read_file(EPHEMERAL) or b"32768 60999").split()]
    groups, listening, named, found = {}, set(), set(), []
    for row in tcp_rows(netlink, ports):
        state, address = row[1], row[:1] + row[8:24]
        local, peer = struct.unpack_from(">HH", row, 4)
        uid, inode = struct.unpack_from("=II", row, 64)
        held = all_of.get(inode) or ([first[inode]] if inode in first else [])
        pids = tuple(sorted(set(held)))
        named.update(pids)
        if state == LISTEN:
            listening.add(row[4:6] + address)
            found.append(("listener", row + struct.pack(">I%dI" % len(pids), len(held), *pids)))
            continue
        inbound = local in ports or row[4:6] + address in listening or row[4:6] + row[:1] + bytes(16) in listening
        if not inbound and not low <= local <= high and low <= peer <= high:
            inbound = True  # its listener has gone
        waiting = address if not inode and state in (1, 8) else b""
        key = (pids, inbound, local if inbound else peer, state, inode != 0, 0 if pids else uid, waiting)
        if key not in groups and len(groups) >= GROUP_LIMIT:
            key = key[:2] + (0,) + key[3:]
        group = groups.setdefault(key, [0, 0])
        group[0] += 1
        group[1] += len(held)
    found += [("group", packed_group(key, *counts)) for key, counts in groups.items()]
    found += [("process", packed_process(one)) for one in sorted(named)]
    return found + [("unreadable", b"%d" % unreadable), ("elsewhere", b"%d" % len(elsewhere))]


def packed_group(key, sockets, descriptors):
    """A group as it is sent: numbers, pids, and family and local address of what waits to be accepted."""
    pids, inbound, port, state, inode, uid, waiting = key
    head = struct.pack(">BBBHIIII", state, inbound, inode, port, uid, sockets, descriptors, len(pids))
    return head + struct.pack(">%dI" % len(pids), *pids) + waiting


def packed_process(pid):
    """A process as it is sent: pid, and what it says of itself."""
    facts = [read_file("/proc/%d/%s" % (pid, name), 2048) or b"" for name in ("comm", "cmdline", "cgroup")]
    return struct.pack(">IHHH", pid, *[len(fact) for fact in facts]) + b"".join(facts)


def network_namespaces(pids):
    """Inodes of the network namespaces of processes, and how many processes do not show theirs."""
    spaces, hidden = set(), 0
    for pid in pids:
        try:
            spaces.add(os.stat("/proc/%s/ns/net" % pid).st_ino)
        except OSError as error:
            hidden += error.errno in (1, 13)
    return spaces, hidden


def running():
    """Pids of all processes that are to be seen here."""
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []


def refusal(attempt, *arguments):
    """errno of what an attempt meets, b"0" if it succeeds."""
    try:
        attempt(*arguments)
    except Refused as refused:
        return b"%d" % (refused.args[0] or 255)
    except OSError as error:
        return b"%d" % (error.errno or 255)
    return b"0"


def read_one(path):
    """Reads a little of a file, or raises."""
    with open(path, "rb", 0) as file:
        file.read(1)


def first_info():
    """Length of tcp_info and whether there is a cookie, of the first socket: fields, none where there is no socket."""
    for family in (AF_INET, AF_INET6):
        request = struct.pack("=BBBBI48s", family, 6, 2, 0, ALL_STATES & ~(1 << 6), b"")
        for data in Netlink(NETLINK_SOCK_DIAG).dump(SOCK_DIAG_BY_FAMILY, request):
            for at, length in messages(data):
                info = attributes(data, at + ROW, at + length).get(2, b"")
                return [("tcp_info", b"%d" % len(info)), ("cookies", b"%d" % (data[at + 60 : at + 68] != NO_COOKIE))]
    return []


def conntrack():
    """Asks connection tracking for its statistics (IPCTNL_MSG_CT_GET_STATS), as the least that needs the permission."""
    netlink = Netlink(NETFILTER)
    netlink.send(CT_GET_STATS, NLM_F_REQUEST, struct.pack("=BBH", 0, 0, 0))
    data = netlink.receive()
    if struct.unpack_from("=IH", data)[1] == NLMSG_ERROR:
        raise Refused(-struct.unpack_from("=i", data, 16)[0], "conntrack")


def examined(netlink, _):
    """What evidence is to be had here: for each kind an errno, 0 if it can be read, or a number."""
    found = [
        ("sock_diag", b"0" if netlink else refusal(first_info)),
        ("proc_net_tcp", refusal(read_one, "/proc/net/tcp")),
        ("netstat", refusal(read_one, "/proc/net/netstat")),
        ("somaxconn", refusal(read_one, "/proc/sys/net/core/somaxconn")),
        ("retries", refusal(read_one, "/proc/sys/net/ipv4/tcp_retries2")),
    ]
    if netlink:
        found += first_info()
    # Where nothing is tracked, to ask would load a module.
    if os.path.exists("/proc/sys/net/netfilter/nf_conntrack_count"):
        found.append(("ctnetlink", refusal(conntrack)))
        found.append(("proc_conntrack", refusal(read_one, "/proc/net/nf_conntrack")))
    closed, pids = 0, running()
    spaces, hidden = network_namespaces(pids)
    for pid in pids:
        folder = "/proc/%d/" % pid
        try:
            for descriptor in os.listdir(folder + "fd")[:1]:
                os.readlink(folder + "fd/" + descriptor)
        except OSError as error:
            closed += error.errno in (1, 13)
    for name, value in (("processes", len(pids)), ("closed", closed), ("spaces", len(spaces)), ("hidden", hidden)):
        found.append((name, b"%d" % value))
    for line in (read_file("/proc/self/status") or b"").split(b"\n"):
        if line.startswith(b"CapEff:"):
            found.append(("capabilities", b"%d" % int(line.split()[1], 16)))
    for line in (read_file("/proc/self/mounts") or b"").split(b"\n"):
        parts = line.split()
        if len(parts) > 3 and parts[1] == b"/proc" and parts[2] == b"proc":
            found += [("hidepid", word[8:]) for word in parts[3].split(b",") if word.startswith(b"hidepid=")]
    return found


EXTENSION = {20: counted, 21: examined}
