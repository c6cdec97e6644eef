"""A run as files: what each host said, so that it can be judged again without a network."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from msgspec import structs

from halfopen import __version__
from halfopen.errors import HostError
from halfopen.evidence.saved import (
    SCHEMA,
    Run,
    Said,
    Saved,
    SavedRound,
    encode,
    pack_counts,
    pack_observations,
    pack_replies,
    pack_routing,
)
from halfopen.judge.assembly.check import stamp
from halfopen.judge.assembly.run_evidence import host_error
from halfopen.judge.confirm.bracket import Bracket
from halfopen.judge.signs.case import HostEvidence
from halfopen.model import Snapshot
from halfopen.run.fleet import Fleet
from halfopen.run.live import CheckRun


def saved(checked: CheckRun) -> dict[str, bytes]:
    """Host -> the file that holds its evidence of this run."""
    run = Run(
        id=new_id(),
        started_at=stamp(checked.fleet.started_at),
        finished_at=stamp(checked.finished_at),
        elapsed_s=checked.elapsed_s,
        checks=tuple(checked.fleet.plans),
    )
    return {name: encode(saved_host(checked, name, run)) for name in checked.fleet.ports}


def saved_host(checked: CheckRun, name: str, run: Run) -> Saved:
    """One host's evidence; of the checks that name it, the one that looked most often."""
    own = [evidence for evidence in checked.inquired.evidence if name in evidence.snapshots]
    evidence = max(own, key=lambda evidence: len(evidence.brackets))
    known = checked.inquired.hosts.get(name) or HostEvidence(name)
    return structs.replace(
        saved_look(checked.fleet, evidence.snapshots[name], known, run),
        error=said(host_error(name, evidence)),
        looks=tuple(packed(name, bracket) for bracket in evidence.brackets),
        pauses=tuple(bracket.paused_s for bracket in evidence.brackets),
        sift=packed(name, checked.inquired.sift) if checked.inquired.sift is not None else None,
        counts=pack_counts(name, evidence.counts),
        routing=pack_routing(name, evidence.routing),
        asked=pack_replies(name, {end: reply for check in own for end, reply in check.asked.replies.items()}),
        quiet=pack_observations(name, checked.inquired.quiet),
        dead=packed(name, checked.inquired.dead) if checked.inquired.dead is not None else None,
    )


def packed(name: str, bracket: Bracket) -> SavedRound:
    """The answers of one host in the three looks of a bracket."""
    return (
        pack_observations(name, bracket.before),
        pack_observations(name, bracket.between),
        pack_observations(name, bracket.after),
    )


def saved_look(fleet: Fleet, snapshot: Snapshot, host: HostEvidence, run: Run) -> Saved:
    """One look at a host, with what is known of it beside its sockets."""
    return Saved(
        schema_=SCHEMA,
        version=__version__,
        host=snapshot.host,
        transport=snapshot.transport,
        taken_at=run.finished_at or stamp(datetime.now(UTC)),
        facts=snapshot.facts,
        error=said(snapshot.error),
        namespaces=snapshot.namespaces,
        addresses=fleet.inventory.hosts[snapshot.host].addresses,
        before=dict(host.before),
        after=dict(host.after),
        sysctls=dict(host.sysctls),
        owners=dict(host.owners),
        notes=tuple(note for name, note in fleet.notes if name == snapshot.host),
        run=run,
    )


def new_id() -> str:
    """The random id that the files of one run share, and no others."""
    return secrets.token_hex(8)


def said(error: HostError | None) -> Said | None:
    """An error as it is saved."""
    return Said(code=error.code, message=error.message, hint=error.hint) if error else None
