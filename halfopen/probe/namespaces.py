"""Other network namespaces of the host: which there are, and how to look into one and come back."""

import os

from halfopen.probe.head import Refused
from halfopen.probe.procfs import inode, listed

CLONE_NEWNET = 0x40000000
NAMED = ("/run/netns/", "/var/run/netns/", "/run/docker/netns/")


def namespaces() -> "dict[int, str]":
    """Inode -> path of every network namespace but our own that we may see, by process or by name.

    One readlink a process is all that this costs a host without containers.
    """
    links: dict[str, str] = {}
    for name in listed("/proc/"):
        if name.isdigit():
            try:
                target = os.readlink("/proc/" + name + "/ns/net")
            except OSError:
                continue
            links.setdefault(target, "/proc/" + name + "/ns/net")
    found = {int(target[5:-1]): path for target, path in links.items() if target.startswith("net:[")}
    for folder in NAMED:
        for name in listed(folder):
            found.setdefault(inode(folder + name), folder + name)
    own = inode("/proc/self/ns/net")
    return {netns: path for netns, path in found.items() if netns not in (0, own)}


def setns(descriptor: int) -> None:
    """Moves this thread, our only one, into the network namespace of a descriptor."""
    known = getattr(os, "setns", None)  # Python 3.12
    if known:
        known(descriptor, CLONE_NEWNET)
        return
    import _ctypes

    function = _ctypes.dlsym(_ctypes.dlopen(None, 2), "setns")  # type: ignore[arg-type]  # None: what is loaded
    if _ctypes.call_function(function, (descriptor, CLONE_NEWNET)) != 0:
        raise OSError(1, "setns")


class Inside:
    """As long as it lasts we are in another network namespace (0: our own): its sockets, /proc/net and /proc/sys/net.

    Raises Refused if it may not be entered, or is gone. No process is started for it, so nothing is left behind.
    """

    home: "int | None" = None  # a descriptor of our own namespace, once there has been another

    def __init__(self, netns: int, path: str) -> None:
        self.netns, self.path = netns, path

    def __enter__(self) -> None:
        if self.netns == 0:
            return
        try:
            if Inside.home is None:
                Inside.home = os.open("/proc/self/ns/net", os.O_RDONLY)
            there = os.open(self.path, os.O_RDONLY)
            try:
                if os.fstat(there).st_ino != self.netns:
                    raise OSError(2, "another namespace")
                setns(there)
            finally:
                os.close(there)
        except (OSError, ImportError, AttributeError) as error:
            raise Refused(getattr(error, "errno", None) or 1, "namespace") from error

    def __exit__(self, *_: object) -> None:
        if self.netns and Inside.home is not None:
            try:
                setns(Inside.home)
            except OSError as error:
                raise SystemExit("the way back into the host's own network namespace is closed") from error
