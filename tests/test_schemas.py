"""What the schemas of one version promise, those of every later one keep.

The rule has two sides, because a document has a writer and a reader, and either may be the older:

* An old document and a new reader: every document of an old schema is valid under the new one, and nothing of it is
  lost. So no property is dropped, no type narrowed, no word of an enum dropped, no property newly required. This holds
  for everything that halfopen writes: snapshots are read again by halfopen, reports are kept by whoever read them.
* A new document and an old reader: what a program was told to find is there, and is of the type that it was told. So
  nothing that was required becomes optional, and no type is widened (not by null either). This holds for what others
  read: report, count, doctor. An old reader must bear two things: properties and words that it does not know.
  A snapshot may say more than an old halfopen understands, which then refuses it in a sentence.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib import resources
from typing import Any

import msgspec
import pytest
from make_schemas import HERE, KEPT, WRITTEN, made
from report_examples import EXAMPLES

from halfopen.errors import ErrorCode
from halfopen.evidence.saved import decode, to_json
from halfopen.inventory import TRANSPORTS
from halfopen.model import Collector
from halfopen.report.schema import SCHEMAS
from halfopen.schema.report import CauseCode, Report, Transport
from halfopen.tcp import State

FOR_OTHERS = ("report", "count", "doctor", "diff")
Schema = dict[str, Any]


class Reader:
    """Compares two schemas: what does a document of one, `written`, do to a reader of the other?"""

    def __init__(self, written: Schema, read: Schema, newer: bool) -> None:
        """`newer`: the document is of the later version, so properties and words may be new to the reader."""
        self.written, self.read, self.newer = written, read, newer

    def troubles(self) -> list[str]:
        """Every place where the reader is let down, with why."""
        return list(self.compare(self.written, self.read, "$"))

    def compare(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        """A schema of a place in the document, and that of the same place as the reader knows it."""
        known = alternatives(read, self.read)
        for one in alternatives(written, self.written):
            tried = [list(self.alternative(one, other, place)) for other in known]
            yield from min(tried, key=len)

    def alternative(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        """The same for schemas that are no choice of several."""
        if kind(written) != kind(read) and (kind(written), kind(read)) != ("integer", "number"):
            yield f"{place}: {kind(written)} where {kind(read)} is known"
            return
        if "enum" in read and not self.newer:
            yield from (
                f"{place}: the word {one} is dropped" for one in set(written.get("enum", ["any"])) - set(read["enum"])
            )
        if "enum" in read and "enum" not in written:
            yield f"{place}: any text where words are known"
        yield from (f"{place}: {key} has changed" for key in EXACT if key in read and written.get(key) != read[key])
        yield from self.properties(written, read, place)
        for key in ("items", "additionalProperties"):
            if isinstance(read.get(key), dict):
                yield from self.compare(written.get(key, {}), read[key], f"{place}[]")
        parts = zip(written.get("prefixItems", ()), read.get("prefixItems", ()), strict=False)
        for at, (one, other) in enumerate(parts):
            yield from self.compare(one, other, f"{place}[{at}]")

    def properties(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        """The fields of an object."""
        there, known = written.get("properties", {}), read.get("properties", {})
        if not self.newer:
            yield from (f"{place}.{name}: dropped" for name in there.keys() - known.keys())
        needed = set(read.get("required", ())) - set(written.get("required", ()))
        yield from (f"{place}.{name}: required of a document that may lack it" for name in needed)
        for name in there.keys() & known.keys():
            yield from self.compare(there[name], known[name], f"{place}.{name}")


EXACT = ("const", "format", "pattern", "contentEncoding", "minItems", "maxItems", "uniqueItems", "propertyNames")
"""Keywords that are compared as they stand."""


def alternatives(schema: Schema, whole: Schema) -> list[Schema]:
    """A schema as a list of those that it is a choice of, references followed."""
    if "$ref" in schema:
        return alternatives(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    return [leaf for one in schema["anyOf"] for leaf in alternatives(one, whole)] if "anyOf" in schema else [schema]


def kind(schema: Schema) -> str:
    """The JSON type; words are text."""
    return "string" if "enum" in schema or "const" in schema else str(schema.get("type", "anything"))


def breaks(what: str, old: Schema, new: Schema) -> list[str]:
    """Where the new schema of a kind of document breaks what the old one promised."""
    found = Reader(old, new, newer=False).troubles()
    return found + (Reader(new, old, newer=True).troubles() if what in FOR_OTHERS else [])


@pytest.mark.parametrize("what", WRITTEN)
@pytest.mark.parametrize("version", sorted(path.name for path in KEPT.iterdir()))
def test_what_a_version_promised_is_kept(version: str, what: str) -> None:
    old = json.loads((KEPT / version / f"{what}.json").read_text())
    assert breaks(what, old, SCHEMAS[what]()) == []


@pytest.mark.parametrize("what", WRITTEN)
def test_the_schemas_of_this_version_are_kept(what: str) -> None:
    """Where they differ: `python tests/make_schemas.py`, and read what has changed."""
    assert (HERE / f"{what}.json").read_text() == made(what)


def definition(name: str) -> Callable[[Schema], Schema]:
    """A part of a schema, to be changed."""
    return lambda schema: schema["$defs"][name]


HOST, END = definition("HostReport"), definition("End")
CHANGES: dict[str, tuple[Callable[[Schema], Any], str | None]] = {
    "a new field": (lambda one: HOST(one)["properties"].update(load={"type": "number"}), None),
    "a new word": (lambda one: definition("Verdict")(one)["enum"].append("moonstruck"), None),
    "other prose": (lambda one: HOST(one).update(description="A host."), None),
    "a field is dropped": (lambda one: END(one)["properties"].pop("unit"), "server.unit: dropped"),
    "a field is renamed": (
        lambda one: END(one)["properties"].update(group=END(one)["properties"].pop("unit")),
        "unit: dropped",
    ),
    "a new field is required": (
        lambda one: (HOST(one)["properties"].update(load={}), HOST(one)["required"].append("load")),
        "load: required",
    ),
    "a field is no longer required": (lambda one: HOST(one)["required"].remove("sockets"), "sockets: required"),
    "a number is text": (lambda one: HOST(one)["properties"].update(sockets={"type": "string"}), "string where"),
    "null is new": (
        lambda one: HOST(one)["properties"].update(complete={"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
        "null where boolean is known",
    ),
    "null is gone": (lambda one: HOST(one)["properties"].update(sockets={"type": "integer"}), "null where integer"),
    "a word is dropped": (lambda one: definition("Verdict")(one)["enum"].remove("stalled"), "stalled is dropped"),
    "any text": (lambda one: definition("Verdict")(one).update(enum=[]), "is dropped"),
    "a time is any text": (
        lambda one: definition("Report")(one)["properties"].update(started_at={"type": "string"}),
        "format has changed",
    ),
    "another schema": (
        lambda one: definition("Report")(one)["properties"].update(schema={"const": "halfopen.report/2"}),
        "const has changed",
    ),
    "a list of other things": (
        lambda one: HOST(one)["properties"]["addresses"].update(items={"type": "integer"}),
        "addresses[]: string where integer",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_breaks_a_promise_is_told_from_one_that_does_not(change: str) -> None:
    old, new = SCHEMAS["report"](), deepcopy(SCHEMAS["report"]())
    apply, trouble = CHANGES[change]
    apply(new)
    found = breaks("report", old, new)
    assert any(trouble in one for one in found) if trouble else found == []


def test_a_snapshot_may_be_widened_but_not_narrowed() -> None:
    old, wide, narrow = (deepcopy(SCHEMAS["snapshot"]()) for _ in range(3))
    definition("Socket")(wide)["properties"]["family"] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    definition("Socket")(narrow)["properties"]["uid"] = {"type": "integer"}
    assert breaks("snapshot", old, wide) == []
    assert breaks("snapshot", old, narrow) != []


def with_newer(value: Any) -> Any:
    """The same with a field more in every object that has fields, as a later version may write it."""
    if isinstance(value, list | tuple):
        return [with_newer(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: one if key in MAPS else with_newer(one) for key, one in value.items()} | {"newer": {"x": [1]}}


MAPS = ("states", "before", "after", "sysctls", "owners", "max")
"""Objects whose keys are data and not fields."""


def test_fields_of_a_later_version_are_left_out_of_a_report() -> None:
    for make in EXAMPLES.values():
        report = make()
        assert msgspec.convert(with_newer(msgspec.to_builtins(report)), Report) == report


def test_fields_of_a_later_version_are_left_out_of_a_snapshot() -> None:
    """Of every object in it: the file itself, facts, namespaces, tables, sockets."""
    saved = decode(resources.files("halfopen.demo").joinpath("recorded/app1.halfopen").read_bytes(), "app1")
    text = json.dumps(with_newer(json.loads(to_json(saved)))).encode()
    assert text.count(b"newer") > 20
    assert decode(gzip.compress(text), "newer") == saved


def test_schemas_enumerate_the_words_of_the_types_and_mark_times() -> None:
    """Whatever is a word in the code is the same word in the schema; a word that is added there is added here."""
    for what, names in {
        "report": ("started_at", "finished_at"),
        "count": ("taken_at",),
        "snapshot": ("taken_at",),
    }.items():
        top = SCHEMAS[what]()
        fields = definition(top["$ref"].rpartition("/")[2])(top)["properties"]
        assert [fields[name]["format"] for name in names] == ["date-time"] * len(names)
    words = {name: set(one["enum"]) for name, one in SCHEMAS["report"]()["$defs"].items() if "enum" in one}
    assert words["ErrorCode"] == set(ErrorCode) and words["Collector"] == set(Collector)
    assert words["State"] == set(State) and words["CauseCode"] == set(CauseCode)
    host = HOST(SCHEMAS["report"]())["properties"]
    assert set(host["transport"]["enum"]) == set(Transport) == {*TRANSPORTS, "file"}
    assert host["states"]["propertyNames"]["anyOf"][0]["enum"] == sorted(State)
