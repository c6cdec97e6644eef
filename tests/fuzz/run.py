"""Fuzzes parsers, guided by which of their branches an input takes. By hand:

python tests/fuzz/run.py                        every target, a minute each
python tests/fuzz/run.py --seconds 3600 dump    one, an hour
python tests/fuzz/run.py --keep DIR --minimise  and writes what was found to take branches into the corpus

Prints for each target how many inputs were run. What breaks one is kept as DIR/TARGET/crash-…, and named.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import subprocess
import sys
import time
import zipfile
from pathlib import Path

FUZZ = Path(__file__).parent
sys.path[:0] = [str(FUZZ.parent), str(FUZZ.parent.parent)]

LONG = 1.0
"""Processor seconds that no input of 64 kB may take."""
MEMORY_MB = 1024
SIZE = 4096  # bytes of an input, at most
CORPUS_SIZE = 1200  # bytes of an input that is kept, at most


def main() -> int:
    """Exit status 1 if anything broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target, at most")
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"), help="where inputs are kept")
    parser.add_argument("--minimise", action="store_true", help="write tests/fuzz/corpus from what was kept")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.inside:
        return fuzz(args.targets[0], rest)
    from fuzz.targets import TARGETS

    broken = 0
    for name in args.targets or TARGETS:
        folder = args.keep / name.replace(" ", "-")
        unpack(name, folder / "inputs")
        if args.minimise:
            minimise(name, folder)
            continue
        done, said = run(name, folder, args.seconds, args.runs)
        print(f"{name:20} {done:>12,} inputs{said}", flush=True)
        broken += bool(said)
    return 1 if broken else 0


def corpus_of(name: str) -> Path:
    """Where the corpus of a target is."""
    return FUZZ / "corpus" / f"{name.replace(' ', '-')}.zip"


def unpack(name: str, folder: Path) -> None:
    """The corpus of a target and its seeds, as files."""
    from fuzz.targets import TARGETS

    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (folder / f"seed{number}").write_bytes(seed)
    if corpus_of(name).exists():
        with zipfile.ZipFile(corpus_of(name)) as packed:
            packed.extractall(folder)


def inside(name: str, *more: str) -> list[str]:
    """The command that runs one target by itself; `more`: options and folders of libFuzzer."""
    return [sys.executable, str(FUZZ / "run.py"), "--inside", name, *more]


def run(name: str, folder: Path, seconds: int, runs: int, seed: int = 0) -> tuple[int, str]:
    """How many inputs were run, and what broke ("" if nothing did)."""
    log = folder / "log"
    options = [f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", f"-max_len={SIZE}", "-timeout=20"]
    options += [f"-rss_limit_mb={MEMORY_MB}", "-print_final_stats=1", f"-artifact_prefix={folder}/"]
    with log.open("w") as out:
        code = subprocess.run(inside(name, *options, str(folder / "inputs")), stdout=out, stderr=out).returncode
    text = log.read_text(errors="replace")
    counted = re.findall(r"number_of_executed_units: (\d+)", text)
    why = re.search(r"=== Uncaught Python exception: ===\n(.*)|SUMMARY: (.*)", text)
    broke = why.group(1) or why.group(2) if why else str(log)
    return int(counted[-1]) if counted else 0, f", and broke: {broke}" if code else ""


def minimise(name: str, folder: Path) -> None:
    """Writes the corpus of a target: the smallest inputs that take all branches that those kept take."""
    small = folder / "small"
    small.mkdir(exist_ok=True)
    for old in small.iterdir():
        old.unlink()
    subprocess.run(
        inside(name, "-merge=1", f"-max_len={CORPUS_SIZE}", "-timeout=20", str(small), str(folder / "inputs")),
        capture_output=True,
        check=True,
    )
    corpus_of(name).parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(corpus_of(name), "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(small.iterdir()):
            packed.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def fuzz(name: str, options: list[str]) -> int:
    """Runs one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["halfopen"]):
        from fuzz.targets import TARGETS

    target = TARGETS[name]

    def one(data: bytes) -> None:
        began = time.process_time()
        with contextlib.suppress(*target.allowed):
            target.run(data)
        if (spent := time.process_time() - began) > LONG:
            raise TimeoutError(f"{spent:.1f} s of the processor for {len(data)} bytes")

    # libFuzzer starts its first word again, by a shell, where it merges.
    atheris.Setup([shlex.join(inside(name)), *options], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
