"""What happens in a simulated world: what programs and networks do all day, and what goes wrong.

A happening takes the scene and a number, which chooses whom it happens to; it does nothing where there is nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simulated import DELAY, RIPE, Connection, End, Machine, World

from halfopen.tcp import State


@dataclass(eq=False)
class Scene:
    """web dials db:5432, and db:6432, which db redirects to 5432; db dials web:8080.

    `chatting`: between any two answers both ends of these write something. `flapping`: between any two answers these
    are reset, or dialled again from the same port. `is_checked`: time passes in steps that a check may take.
    """

    world: World = field(default_factory=World)
    is_checked: bool = False
    ports: int = 0
    chatting: list[Connection] = field(default_factory=list)
    flapping: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.web = self.world.host("web", "10.0.0.1", 8080)
        self.db = self.world.host("db", "10.0.0.2", 5432, redirects={6432: 5432})

    def dial(self, way: int = 0, **how: bool) -> Connection:
        """A new connection, by one of three ways. A port of its own for each, as kernels choose it."""
        self.ports += 1
        ways = (
            (self.web, self.db, 40_000, 5432),
            (self.db, self.web, 45_000, 8080),
            (self.web, self.db, 50_000, 6432),
        )
        client, server, base, port = ways[way % 3]
        return self.world.dial(client, server, base + self.ports, port, **how)

    def dial_again(self, old: Connection) -> Connection:
        """The same tuple, once more."""
        _, dialled = old.name
        local_port = int(old.name[0].rpartition(":")[2])
        return self.world.dial(old.client, old.server, local_port, int(dialled.rpartition(":")[2]))

    def whole(self, at: int) -> Connection | None:
        """One of the connections that are well and established."""
        return chosen([one for one in self.world.connections if one.is_whole], at)

    def turns_out(self, seconds: float, one: Connection, verdict: str, ends: int = 2, ripe: float = 0.0) -> None:
        """What is wrong with a connection in a moment; another thing if an end of it has gone until then."""

        def find() -> None:
            if len(one.ends) == ends:
                self.world.find(one, verdict, ripe)
            else:
                self.world.left(one)

        self.world.after(seconds, find)

    def goes_on(self) -> None:
        """What happens between any two answers."""
        for one in self.chatting:
            if one.is_whole:
                for end in one.ends:
                    self.world.say(end, 100)
        for number, one in enumerate(self.flapping):
            found = one.client.ends.get(one.client_key)
            if found is None:
                self.flapping[number] = self.dial_again(one)
            elif found.state is State.ESTABLISHED and found.connection.fault is None:
                self.world.abort(found)


def chosen(some: list[Connection], at: int) -> Connection | None:
    """One of them, if there are any."""
    return some[at % len(some)] if some else None


def ends(one: Connection, at: int) -> tuple[End, End]:
    """Its two ends, one or the other first."""
    first, second = one.ends
    return (second, first) if at % 2 else (first, second)


# ------------------------------------------------------------------------------------------------- all day


def opens(scene: Scene, at: int) -> None:
    scene.dial(at)


def opens_late(scene: Scene, at: int) -> None:
    """The SYN is lost, and sent again."""
    one = scene.dial(at, cut=True)
    scene.world.after(DELAY, lambda: restore(one))


def port_is_used_again(scene: Scene, at: int) -> None:
    """By a client that has nothing left of the connection; its server may have."""
    free = [one for one in scene.world.connections if is_plain(one) and one.client_key not in one.client.ends]
    one = chosen(free, at)
    if one is not None:
        scene.dial_again(one)


def transfers(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None:
        scene.world.say(ends(one, at)[0], 1000)


def chats(scene: Scene, at: int) -> None:
    scene.chatting.extend(filter(None, [scene.whole(at)]))


def flaps(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None and one not in scene.flapping and is_plain(one):
        scene.flapping.append(one)


def is_closed(scene: Scene, at: int) -> None:
    """One program closes, and the other does when it sees that."""
    one = scene.whole(at)
    if one is not None:
        scene.world.close(ends(one, at)[0])


def is_reset(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None:
        scene.world.abort(ends(one, at)[0])


def loses_a_packet(scene: Scene, at: int) -> None:
    """What one end writes has to be sent twice."""
    one = scene.whole(at)
    if one is not None and scene.world.now - one.disturbed_at > 10:
        one.cut, one.disturbed_at = True, scene.world.now
        scene.world.say(ends(one, at)[0], 1000)
        scene.world.after(0.5, lambda: restore(one))


def time_passes(scene: Scene, at: int) -> None:
    scene.world.advance((0.01, 0.1, 1.0, 10.0, 40.0)[at % 5] if not scene.is_checked else 1.0)


def restore(one: Connection) -> None:
    """Its path works again."""
    one.cut = False


# ------------------------------------------------------------------------------------------------- what goes wrong


def server_vanishes(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None and one.server_end is not None:
        scene.world.forget(one.server_end)
        scene.world.find(one, "missing-on-server")


def client_vanishes(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None and one.client_end is not None:
        scene.world.forget(one.client_end)
        scene.world.find(one, "missing-on-client")


def reset_is_lost(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None:
        end = ends(one, at)[0]
        one.cut = True
        scene.world.abort(end)
        one.cut = False
        scene.world.find(one, "missing-on-client" if end.is_client else "missing-on-server")


def cookie_leaves_an_orphan(scene: Scene, at: int) -> None:
    """The accept queue is full when the last ACK of a handshake by SYN cookie comes in."""
    one = scene.dial(at, forgetful=True)
    scene.turns_out(3 * DELAY, one, "missing-on-server", ends=1)


def last_ack_is_lost(scene: Scene, at: int) -> None:
    one = scene.dial(at)
    scene.world.after(1.5 * DELAY, lambda: cut(one))
    scene.turns_out(3 * DELAY, one, "handshake-stuck", ripe=RIPE)


def nothing_answers(scene: Scene, at: int) -> None:
    one = scene.dial(at, cut=True)
    scene.world.find(one, "connect-unanswered", RIPE)


def syn_ack_is_lost(scene: Scene, at: int) -> None:
    one = scene.dial(at)
    scene.world.after(DELAY / 2, lambda: cut(one))
    scene.turns_out(2 * DELAY, one, "connect-unanswered", ripe=RIPE)


def client_gives_up_unheard(scene: Scene, at: int) -> None:
    one = scene.dial(at)

    def give_up() -> None:
        for end in one.ends:
            if end.is_client:
                scene.world.forget(end)

    scene.world.after(DELAY / 2, lambda: cut(one))
    scene.world.after(1.5 * DELAY, give_up)
    scene.turns_out(2 * DELAY, one, "embryonic", ends=1, ripe=RIPE)


def is_never_accepted(scene: Scene, at: int) -> None:
    one = scene.dial(at, accepts=False)
    scene.turns_out(4 * DELAY, one, "never-accepted")


def is_never_closed(scene: Scene, at: int) -> None:
    """One program shuts down or closes; the other takes no notice. Who has closed waits for a minute."""
    one = scene.whole(at)
    if one is not None:
        one.closes = False
        scene.world.close(ends(one, at)[0], orphan=at % 3 == 0)
        scene.turns_out(3 * DELAY, one, "half-closed")


def fin_is_lost(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None:
        cut(one)
        scene.world.close(ends(one, at)[0])
        scene.world.find(one, "close-lost", RIPE)


def closes_alone(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None:
        end, other = ends(one, at)
        cut(one)
        scene.world.close(end)
        scene.world.forget(other)
        scene.world.find(one, "closing-alone", RIPE)


def path_dies(scene: Scene, at: int) -> None:
    """What one end writes is lost, and lost again."""
    one = scene.whole(at)
    if one is not None:
        cut(one)
        scene.world.say(ends(one, at)[0], 1000)
        scene.world.find(one, "stalled", RIPE)


def begins_another_life(scene: Scene, at: int) -> None:
    """A client that lost its socket long ago dials from the same port, and a box in between answers for the server."""
    one = scene.whole(at)
    quiet = one is not None and not any(end.outstanding for end in one.ends)
    if one is not None and one.server_end is not None and quiet:
        old = one.server_end
        old.sent_at, old.received_at, old.heard_at = (
            moment - 100 for moment in (old.sent_at, old.received_at, old.heard_at)
        )
        new_client(scene.world, one, old.received + 5000)


def begins_another_life_over_a_closed_one(scene: Scene, at: int) -> None:
    one = scene.whole(at)
    if one is not None and one.client_end is not None:
        one.closes = False
        scene.world.close(one.client_end)
        scene.world.after(3 * DELAY, lambda: new_client(scene.world, one, 0))


def new_client(world: World, one: Connection, written: int) -> None:
    """The client's end is another socket, which has had this much acknowledged by somebody else."""
    cut(one)
    if one.client_end is not None and len(one.ends) == 2:
        world.forget(one.client_end)
        one.client_end = world.put(one, State.ESTABLISHED, is_client=True)
        one.client_end.written = one.client_end.acknowledged = written
        world.find(one, "desynchronized")


def boots(scene: Scene, at: int) -> None:
    host: Machine = (scene.web, scene.db)[at % 2]
    scene.world.reboot(host)


def is_mended(scene: Scene, at: int) -> None:
    """Somebody does something about it: accepts, closes, mends the path, writes to who is gone, or resets what is left.

    What is written to an end that is gone is answered with a RST.
    """
    one = chosen([one for one in scene.world.connections if one.fault is not None], at)
    if one is None:
        return
    verdict = one.fault
    one.accepts = one.closes = True
    if verdict == "never-accepted" and one.server_end is not None:
        scene.world.accept(one.server_end)
    elif verdict == "half-closed":
        for end in one.ends:
            scene.world.close(end)
    elif verdict in ("stalled", "close-lost", "handshake-stuck", "connect-unanswered") and at % 2:
        restore(one)
    elif verdict in ("missing-on-server", "missing-on-client") and at % 2:
        one.forgetful = one.cut = False
        for end in one.ends:
            scene.world.say(end, 1000)
    else:
        restore(one)
        for end in one.ends:
            scene.world.abort(end)


def cut(one: Connection) -> None:
    """Whatever is sent from now on is lost."""
    one.cut = True


def is_plain(one: Connection) -> bool:
    """Whether nothing translates it."""
    return one.client_key[-2:] == one.server_key[-4:-2]


Happening = Callable[[Scene, int], None]

HEALTHY: tuple[Happening, ...] = (
    opens,
    opens_late,
    port_is_used_again,
    transfers,
    chats,
    flaps,
    is_closed,
    is_reset,
    loses_a_packet,
    time_passes,
)
FAULTS: tuple[Happening, ...] = (
    server_vanishes,
    client_vanishes,
    reset_is_lost,
    cookie_leaves_an_orphan,
    last_ack_is_lost,
    nothing_answers,
    syn_ack_is_lost,
    client_gives_up_unheard,
    is_never_accepted,
    is_never_closed,
    fin_is_lost,
    closes_alone,
    path_dies,
    begins_another_life,
    begins_another_life_over_a_closed_one,
    boots,
)
HAPPENINGS = {one.__name__: one for one in (*HEALTHY, *FAULTS, is_mended)}
