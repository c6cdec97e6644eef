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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.host import Lab, LabHost, lab
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


def states(made: Lab, finding: dict[str, Any]) -> tuple[str | None, str | None]:
    """What `ss` shows of a finding's connection now: the states of the client's end and of the server's."""
    ends = finding["connection"]["client"], finding["connection"]["server"]
    return made["web"].ss().get(ends), made["db"].ss().get(ends[::-1])


SHOWN = {"ESTABLISHED": "ESTAB", "FIN_WAIT1": "FIN-WAIT-1", "FIN_WAIT2": "FIN-WAIT-2"}


def as_shown(end: dict[str, Any] | None) -> str | None:
    """The state of an end of a finding as `ss` writes it."""
    return None if end is None else SHOWN.get(end["state"], end["state"].replace("_", "-"))


def looked(made: Lab, checks: int, later: float) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """So many checks: how many connections each compared at least, all findings, and those that are not so later on."""
    compared, found = [], []
    for _ in range(checks):
        _, report = check(made)
        compared.append(report["connections"])
        found += report["findings"]
    if found:
        time.sleep(later)
    false = [one for one in found if states(made, one) != (as_shown(one["client"]), as_shown(one["server"]))]
    return min(compared), found, false


def main(names: Sequence[str]) -> None:
    """A line for each program and loss."""
    for name in names or [name for name, program in PROGRAMS.items() if program.is_here]:
        with tempfile.TemporaryDirectory() as folder, under_load(Path(folder), name, 1800) as (made, port):
            for loss in LOSSES:
                lose(made, port, loss)
                compared, found, false = looked(made, CHECKS, LATER)
                told = f"{CHECKS} checks of {compared} or more, {len(found)} findings, {len(false)} false"
                print(f"{name:10} {loss:4} % lost: {told}", flush=True)
                for one in false:
                    print("   ", json.dumps(one), states(made, one), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
