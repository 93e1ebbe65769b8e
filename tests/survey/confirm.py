"""Command: confirms by brute force what the survey's known-good list and ledger say.

    python -m tests.survey.confirm --known-good [--types llama,bert]
    python -m tests.survey.confirm --ledger [--entry NAME] [--all]

Known-good pairs must show no wrong pair, all in one process; genuine entries of the ledger must show one of the kind
that they name, each in a process of its own. Without --all, an entry is confirmed on one of its types only. Imports no
attncheck.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.survey import brute

HERE = Path(__file__).parent
#: Seconds that one case may take.
LIMIT = 300


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of `brute.py`. wanted: kinds of wrong pairs of which one must show; empty: none may show."""

    name: str
    arguments: tuple[str, ...]
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a probe."""

    probe: Probe
    right: bool
    text: str


def known_good() -> Iterator[Probe]:
    """Every case of the known-good list, all scenarios of a pair in one process."""
    data = tomllib.loads((HERE / "known_good.toml").read_text())
    for entry in data["pair"]:
        for model_type in entry["types"]:
            for implementation in entry.get("implementations", data["implementations"]):
                stack = entry.get("stack", "decoder")
                scenarios = entry.get("scenarios", data["scenarios"])
                words = [model_type, "--impl", implementation, "--expect", entry["expect"], "--stack", stack]
                words += [text for name in scenarios for text in ("--scenario", name)]
                words += ["--spread", str(entry.get("spread", brute.SPREAD))]
                yield Probe(f"{model_type} x {implementation} ({stack})", (*words, *sets(entry.get("set", {}))))


def pairs() -> list[tuple[str, str, str, tuple[str, ...]]]:
    """(type, setting of the survey, implementation, scenarios) of every known-good pair."""
    data = tomllib.loads((HERE / "known_good.toml").read_text())
    return [
        (model_type, entry.get("setting", ""), implementation, tuple(entry.get("scenarios", data["scenarios"])))
        for entry in data["pair"]
        for model_type in entry["types"]
        for implementation in entry.get("implementations", data["implementations"])
    ]


def genuine() -> list[dict[str, Any]]:
    """The entries of the ledger that brute force must confirm."""
    data = tomllib.loads((HERE / "ledger.toml").read_text())
    return [entry for entry in data["entry"] if entry["verdict"] == "genuine"]


def ledger(every: bool, wanted: str = "") -> Iterator[Probe]:
    """The confirmations of the genuine entries."""
    for entry in genuine():
        if wanted and entry["name"] != wanted:
            continue
        for probe in entry["confirm"]:
            names = probe.get("types", entry["types"]) if every else [probe.get("type", entry["types"][0])]
            for model_type in names:
                words = (model_type, *probe["arguments"])
                yield Probe(f"{entry['name']}: {' '.join(words)}", words, tuple(probe["shows"]))


def sets(changes: Mapping[str, Any]) -> Iterator[str]:
    """The --set options of some keys."""
    import json

    for key, value in changes.items():
        yield "--set"
        yield f"{key}={json.dumps(value)}"


def run(probe: Probe) -> Said:
    """Run one case in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.survey.brute", *probe.arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return Said(probe, False, f"longer than {LIMIT} s")
    text = done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]
    if probe.wanted:
        return Said(probe, done.returncode == 1 and any(f" {kind}" in text for kind in probe.wanted), text)
    return Said(probe, done.returncode == 0, text)


def run_here(probe: Probe) -> Said:
    """Run one case in this process, for cases that must be clean: then nothing that ran before can help them."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            brute.main(probe.arguments)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(probe, code == 0, out.getvalue().strip())


def confirmed(probes: Sequence[Probe], jobs: int) -> list[Said]:
    """What came of all probes, told as they end."""
    found = []
    with ThreadPoolExecutor(jobs) as pool:
        apart = iter(pool.map(run, [probe for probe in probes if probe.wanted]))
        for count, probe in enumerate(probes, 1):
            said = next(apart) if probe.wanted else run_here(probe)
            found.append(said)
            print(f"{count}/{len(probes)} {'ok  ' if said.right else 'FAIL'} {said.probe.name}", flush=True)
            if not said.right or said.probe.wanted:
                print("    " + said.text.replace("\n", "\n    "), flush=True)
    return found


def main() -> None:
    """Parses the arguments and runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known-good", action="store_true")
    parser.add_argument("--ledger", action="store_true")
    parser.add_argument("--all", action="store_true", help="every type of an entry, not only the first")
    parser.add_argument("--entry", default="")
    parser.add_argument("--types", default="")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    names = [entry["name"] for entry in genuine()]
    if arguments.entry and arguments.entry not in names:
        parser.error(f"--entry {arguments.entry}: no genuine entry of that name; there are {', '.join(names)}")
    probes = [
        *(known_good() if arguments.known_good else ()),
        *(ledger(arguments.all, arguments.entry) if arguments.ledger else ()),
    ]
    if arguments.types:
        probes = [probe for probe in probes if probe.arguments[0] in arguments.types.split(",")]
    found = confirmed(probes, arguments.jobs)
    wrong = [said for said in found if not said.right]
    print(f"{len(found) - len(wrong)} of {len(found)} confirmed")
    sys.exit(1 if wrong or not found else 0)


if __name__ == "__main__":
    main()
