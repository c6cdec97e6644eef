"""Real servers under load between two hosts of the lab, and what is true of each finding a minute later.

By hand, all of them at each loss, ten checks each: `PYTHONPATH=tests python -m lab.programs [PROGRAM...]`, as root.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.host import Lab, LabHost, lab, plain
from lab.tool import check
from lab.waiting import until

LOAD = Path(__file__).with_name("load.py")
LOSSES = (0.0, 0.5, 2.0, 10.0)  # percent of packets, in each direction
CHECKS, LATER = 10, 60.0
GET = r"GET / HTTP/1.1\r\nHost: db\r\n\r\n"
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("/nonexistent"))
WSGI = "def app(environ, start):\n    start('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n"
NODE = "require('http').createServer((_, answer) => answer.end('ok')).listen({port}, '{address}')"


@dataclass(frozen=True)
class Program:
    """A server: what it needs on this machine, how it is started on a host, and what its clients send.

    `start` is given the host, a folder that all may read, the address and the port. `load`: another client's command.
    """

    needs: Sequence[str]
    start: Callable[[LabHost, Path, str, int], None]
    request: str = GET
    load: Callable[[str, int, int], list[str]] | None = None

    @property
    def is_here(self) -> bool:
        """Whether this machine has it."""
        return all(shutil.which(name) or Path(name).exists() for name in self.needs)


def config(folder: Path, name: str, text: str) -> str:
    """Writes a file of settings; its name."""
    path = folder / name
    path.write_text(text)
    return str(path)


def postgres(host: LabHost, folder: Path, address: str, port: int) -> None:
    data = folder / "postgres"
    data.mkdir()
    shutil.chown(data, "postgres")
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    host.run(*as_postgres, str(POSTGRES / "initdb"), "-D", str(data), "-A", "trust", "-N", "-E", "UTF8")
    (data / "pg_hba.conf").write_text("host all all all trust\n")
    settings = [f"listen_addresses={address}", f"port={port}", "unix_socket_directories=", "fsync=off"]
    options = [word for setting in settings for word in ("-c", setting)]
    host.start(*as_postgres, str(POSTGRES / "postgres"), "-D", str(data), *options, stderr=subprocess.DEVNULL)
    until(lambda: host.listens(port))


def pgbouncer(host: LabHost, folder: Path, address: str, port: int) -> None:
    postgres(host, folder, "127.0.0.1", 5432)
    users = config(folder, "users", '"postgres" ""\n')
    text = f"""[databases]
* = host=127.0.0.1 port=5432 user=postgres
[pgbouncer]
listen_addr = {address}
listen_port = {port}
auth_type = any
auth_file = {users}
pool_mode = transaction
unix_socket_dir =
"""
    settings = config(folder, "pgbouncer.ini", text.replace("* = host", "postgres = host"))
    host.start("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "pgbouncer", "-q", settings)


def redis(host: LabHost, _: Path, address: str, port: int) -> None:
    options = ["--bind", address, "--port", str(port), "--protected-mode", "no", "--save", "", "--daemonize", "no"]
    host.start("redis-server", *options, stdout=subprocess.DEVNULL)


def nginx(host: LabHost, folder: Path, address: str, port: int) -> None:
    text = f"""daemon off; pid {folder}/nginx.pid; error_log /dev/null; events {{}}
http {{ access_log off; server {{ listen {address}:{port}; location / {{ return 200 ok; }} }} }}
"""
    host.start("nginx", "-c", config(folder, "nginx.conf", text), stderr=subprocess.DEVNULL)


def haproxy(host: LabHost, folder: Path, address: str, port: int) -> None:
    nginx(host, folder, "127.0.0.1", 8081)
    text = f"""defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen web
  bind {address}:{port}
  server one 127.0.0.1:8081
"""
    host.start("haproxy", "-db", "-q", "-f", config(folder, "haproxy.cfg", text), stderr=subprocess.DEVNULL)


def apache(host: LabHost, folder: Path, address: str, port: int) -> None:
    modules = "/usr/lib/apache2/modules"
    text = f"""ServerRoot {folder}
ServerName db
PidFile {folder}/apache.pid
ErrorLog /dev/null
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
Listen {address}:{port}
DocumentRoot {folder}
"""
    (folder / "index.html").write_text("ok")
    host.start("apache2", "-X", "-f", config(folder, "apache.conf", text), stderr=subprocess.DEVNULL)


def gunicorn(host: LabHost, folder: Path, address: str, port: int) -> None:
    config(folder, "wsgi.py", WSGI)
    argv = ["gunicorn", "-k", "gthread", "--threads", "40", "--keep-alive", "5", "-b", f"{address}:{port}"]
    host.start(*argv, "--chdir", str(folder), "wsgi:app", stderr=subprocess.DEVNULL)


def node(host: LabHost, _: Path, address: str, port: int) -> None:
    host.start("node", "-e", NODE.format(address=address, port=port))


def pgbench(address: str, port: int, seconds: int) -> list[str]:
    """Twelve sessions, of which every transaction is a connection of its own in half."""
    one = f"pgbench -h {address} -p {port} -U postgres -n -f {{}} -T {seconds} postgres"
    script = "echo 'select pg_sleep(0.05);' > /run/bench.sql; "
    return ["sh", "-c", script + f"{one} -c 6 & {one} -C -c 6 & wait".replace("{}", "/run/bench.sql")]


PROGRAMS: dict[str, Program] = {
    "postgres": Program([str(POSTGRES / "initdb"), "pgbench"], postgres, load=pgbench),
    "pgbouncer": Program([str(POSTGRES / "initdb"), "pgbench", "pgbouncer"], pgbouncer, load=pgbench),
    "redis": Program(["redis-server"], redis, r"PING\r\n"),
    "nginx": Program(["nginx"], nginx),
    "haproxy": Program(["haproxy", "nginx"], haproxy),
    "apache": Program(["apache2"], apache),
    "gunicorn": Program(["gunicorn"], gunicorn),
    "node": Program(["node"], node),
}


@contextmanager
def under_load(folder: Path, name: str, seconds: int) -> Iterator[tuple[Lab, int]]:
    """Two hosts with this server under load, and its port."""
    program, port = PROGRAMS[name], 7000
    with lab(folder, "web", "db") as made:
        for place in (folder, *folder.parents):
            if not place.stat().st_mode & 0o001:
                place.chmod(place.stat().st_mode | 0o011)
        address = made.v4("db")
        program.start(made["db"], folder, address, port)
        until(lambda: made["db"].listens(port))
        plain = [sys.executable, str(LOAD), address, str(port), program.request, "20", str(seconds)]
        command = program.load(address, port, seconds) if program.load else plain
        made["web"].start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: sum(f"{address}:{port}" in ends for ends in made["web"].ss()) >= 6)
        yield made, port


def lose(made: Lab, port: int, percent: float) -> None:
    """Drops so many packets of this service, in each direction."""
    for host, field in (("db", "dport"), ("web", "sport")):
        made[host].undrop()
        if percent:
            made[host].drop(f"tcp {field} {port} numgen random mod 1000 < {round(percent * 10)}")


SHOWN = {"ESTABLISHED": "ESTAB", "FIN_WAIT1": "FIN-WAIT-1", "FIN_WAIT2": "FIN-WAIT-2"}
End = tuple[str, str] | None
"""The state of a socket and its cookie, as `ss` writes them; None where there is no such socket."""


def seen(host: LabHost) -> dict[tuple[str, str], End]:
    """(local, peer) -> state and cookie of the sockets of a host, by its own `ss`."""
    lines = (line.split() for line in host.run("ss", "-OHtane").splitlines())
    return {
        (plain(words[3]), plain(words[4])): (words[0], next((w[3:] for w in words if w.startswith("sk:")), ""))
        for words in lines
    }


def witnessed(made: Lab, finding: dict[str, Any]) -> tuple[End, End]:
    """What `ss` shows of a finding's connection now: the client's end and the server's."""
    ends = finding["connection"]["client"], finding["connection"]["server"]
    return seen(made["web"]).get(ends), seen(made["db"]).get(ends[::-1])


def said(finding: dict[str, Any]) -> tuple[End, End]:
    """The same as a finding says it."""
    ends = (finding["client"], finding["server"])
    client, server = (end and (SHOWN.get(end["state"], end["state"].replace("_", "-")), end["cookie"]) for end in ends)
    return client, server


@dataclass
class Checked:
    """What so many checks said: the fewest connections that one compared, findings, those that `ss` did not confirm so
    many seconds later, connections that were not judged, and how many runs had which outcome.
    """

    compared: int
    findings: list[dict[str, Any]]
    false: list[tuple[dict[str, Any], tuple[End, End]]]
    unjudged: int
    outcomes: Counter[str]


def looked(made: Lab, checks: int, later: float) -> Checked:
    """So many checks, and each of their findings again by `ss`, at least so many seconds after it was told."""
    reports, told = [], []
    for _ in range(checks):
        _, report = check(made)
        assert report["connections"] > 0, report["headline"]
        reports.append(report)
        told += [(time.monotonic(), finding) for finding in report["findings"]]
    false = []
    for moment, finding in told:
        time.sleep(max(0.0, moment + later - time.monotonic()))
        now = witnessed(made, finding)
        if now != said(finding):
            false.append((finding, now))
    return Checked(
        min(report["connections"] for report in reports),
        [finding for _, finding in told],
        false,
        sum(len(report["unjudged"]) for report in reports),
        Counter(report["outcome"] for report in reports),
    )


def is_loaded(made: Lab, port: int) -> bool:
    """Whether connections of the service still come and go: not all that are there now are there in a while."""
    before = set(seen(made["web"]).items())
    try:
        until(lambda: any(str(port) in ends[1] for ends, _ in set(seen(made["web"]).items()) - before))
    except AssertionError:
        return False
    return True


def main(names: Sequence[str]) -> int:
    """A line for each program and loss; how many findings were false, and loads that had ended."""
    wrong = 0
    for name in names or PROGRAMS:
        if not PROGRAMS[name].is_here:
            print(f"{name:10} is not on this machine: {', '.join(PROGRAMS[name].needs)}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder, under_load(Path(folder), name, 1800) as (made, port):
            for loss in LOSSES:
                lose(made, port, loss)
                done = looked(made, CHECKS, LATER)
                loaded = is_loaded(made, port)
                wrong += len(done.false) + (not loaded)
                outcomes = ", ".join(f"{count} {outcome}" for outcome, count in done.outcomes.items())
                told = f"{len(done.findings)} findings, {len(done.false)} false, {done.unjudged} not judged"
                more = "" if loaded else "; its load has ended"
                print(f"{name:10} {loss:4} % lost: {outcomes}, {done.compared} or more: {told}{more}", flush=True)
                for finding, now in done.false:
                    print("   ", json.dumps(finding), now, flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
