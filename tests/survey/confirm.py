"""Command: confirms by brute force what the survey's known-good list and ledger say.

    python -m tests.survey.confirm --known-good [--types llama,bert]
    python -m tests.survey.confirm --ledger [--entry NAME] [--each-type | --all] [--jobs 2]

Known-good pairs must show no wrong pair, all in one process; genuine entries of the ledger must show one of the kind
that they name, each in a process of its own, forked from one that has transformers imported. An entry is confirmed on
one of its types only; with --each-type on every one by the entry's first confirmation for it, with --all by every
confirmation. A type that brute force can neither build nor feed is then NOT RUN and counted; otherwise it fails.
Imports no attncheck.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
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
LIMIT = 60


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of `brute.py`. wanted: kinds of wrong pairs of which one must show; empty: none may show."""

    name: str
    arguments: tuple[str, ...]
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a probe. untried: the model could be neither built nor fed."""

    probe: Probe
    right: bool
    text: str
    untried: bool = False

    @property
    def word(self) -> str:
        """How it is told."""
        return "ok" if self.right else "NOT RUN" if self.untried else "FAIL"


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


def ledger(every: bool, wanted: str = "", *, once: bool = False) -> Iterator[Probe]:
    """The confirmations of the genuine entries. every: for each of their types; once: one confirmation for each.

    A confirmation that names `types` stands for those, in place of the others of its entry.
    """
    for entry in genuine():
        if wanted and entry["name"] != wanted:
            continue
        told: set[str] = set()
        apart = {name for probe in entry["confirm"] for name in probe.get("types", ())}
        for probe in entry["confirm"]:
            others = [name for name in entry["types"] if name not in apart]
            names = probe.get("types", others) if every else [probe.get("type", probe.get("types", others)[0])]
            for model_type in names:
                if once and model_type in told:
                    continue
                told.add(model_type)
                words = (model_type, *probe["arguments"])
                yield Probe(f"{entry['name']}: {' '.join(words)}", words, tuple(probe["shows"]))


def sets(changes: Mapping[str, Any]) -> Iterator[str]:
    """The --set options of some keys."""
    import json

    for key, value in changes.items():
        yield "--set"
        yield f"{key}={json.dumps(value)}"


def forked(probes: Sequence[Probe], jobs: int) -> Iterator[Said]:
    """What comes of the probes, as they end, each in a process forked from this one, which should do nothing else."""
    if any(_flash(probe) for probe in probes):
        from tests.survey import flash_stand_in

        flash_stand_in.install()
    import torch
    import transformers
    from transformers import AutoModel, cache_utils, masking_utils, modeling_utils  # noqa: F401  what most types need

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    running: dict[int, tuple[Probe, int]] = {}
    for probe in probes:
        if len(running) >= jobs:
            yield _ended(running)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, _outcome(probe))
            finally:  # whatever happens, it must not go on with the work of its parent
                os._exit(0)
        os.close(writing)
        running[pid] = probe, reading
    while running:
        yield _ended(running)


def _flash(probe: Probe) -> bool:
    return any(word.startswith("flash_attention") for word in probe.arguments)


def _outcome(probe: Probe) -> bytes:
    """Exit code and first words of brute force, in the process that it may break. An alarm ends what takes too long."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIMIT)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            brute.main(probe.arguments)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception as error:
        code = 2
        out.write(f"{type(error).__name__}: {error}")
    return f"{code} {out.getvalue().strip()[:2000]}".encode()


def _ended(running: dict[int, tuple[Probe, int]]) -> Said:
    """Waits for one of the processes."""
    pid, status = os.wait()
    probe, reading = running.pop(pid)
    with os.fdopen(reading, "rb") as pipe:
        code, _, text = pipe.read().decode().partition(" ")
    if not code:
        signalled = os.WIFSIGNALED(status)
        how = f"died of {signal.Signals(os.WTERMSIG(status)).name}" if signalled else "ended without an answer"
        return Said(probe, False, how, untried=True)
    right = code == "1" and any(f" {kind}" in text for kind in probe.wanted)
    return Said(probe, right, text, untried=not right and (code == "2" or " raises" in text))


def _serve(probes: Sequence[Probe], jobs: int, told: Any) -> None:
    for said in forked(probes, jobs):
        told.send(said)
    told.close()


def apart(probes: Sequence[Probe], jobs: int) -> Iterator[Said]:
    """What comes of the probes. Flash attention's stand-in must be there before transformers: a process of its own."""
    context = multiprocessing.get_context("fork")
    for flash in (False, True):
        if same := [probe for probe in probes if _flash(probe) is flash]:
            hearing, telling = context.Pipe(duplex=False)
            server = context.Process(target=_serve, args=(same, jobs, telling))
            server.start()
            telling.close()
            with contextlib.suppress(EOFError):
                while True:
                    yield hearing.recv()
            server.join()


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
    clean = (run_here(probe) for probe in probes if not probe.wanted)
    for said in itertools.chain(clean, apart([probe for probe in probes if probe.wanted], jobs)):
        found.append(said)
        print(f"{len(found)}/{len(probes)} {said.word:<4} {said.probe.name}", flush=True)
        if not said.right or said.probe.wanted:
            print("    " + said.text.replace("\n", "\n    "), flush=True)
    return found


def main() -> None:
    """Parses the arguments and runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known-good", action="store_true")
    parser.add_argument("--ledger", action="store_true")
    parser.add_argument("--each-type", action="store_true", help="every type of an entry, not only the first")
    parser.add_argument("--all", action="store_true", help="every type by every confirmation of its entry")
    parser.add_argument("--entry", default="")
    parser.add_argument("--types", default="")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    names = [entry["name"] for entry in genuine()]
    if arguments.entry and arguments.entry not in names:
        parser.error(f"--entry {arguments.entry}: no genuine entry of that name; there are {', '.join(names)}")
    every = arguments.each_type or arguments.all
    entries = ledger(every, arguments.entry, once=every and not arguments.all)
    probes = [*(known_good() if arguments.known_good else ()), *(entries if arguments.ledger else ())]
    if arguments.types:
        probes = [probe for probe in probes if probe.arguments[0] in arguments.types.split(",")]
    found = confirmed(probes, arguments.jobs)
    right, untried = sum(said.right for said in found), sum(said.untried for said in found)
    print(f"{right} of {len(probes)} confirmed" + (f", {untried} NOT RUN" if untried else ""))
    sys.exit(0 if right and right + (untried if every else 0) == len(probes) else 1)


if __name__ == "__main__":
    main()
