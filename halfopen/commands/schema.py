"""`halfopen schema`: the JSON Schemas that other programs can rely on."""

from __future__ import annotations

import argparse
import json

from halfopen.environment import Environment
from halfopen.report.schema import SCHEMAS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which schema."""
    parser.add_argument("what", choices=tuple(SCHEMAS), help="what the schema describes")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Prints a JSON Schema (2020-12)."""
    print(json.dumps(SCHEMAS[args.what](), indent=2), file=environment.stdout)
    return 0
