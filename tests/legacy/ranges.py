"""Command: holds the version ranges of known_transformers.toml against measurements at both ends of each range.

    python -m tests.legacy.ranges --cache DIR [--only ID,ID] [--jobs 2] [--json FILE] [--dry-run]

For each range of an entry: the first and the last release in it must show the slug of the entry, the releases just
before and after it must not. Releases before 4.37 cannot run attncheck, and those after 5.23.0 are not known. Entries
that nothing here can measure say why; they are listed. Exit 1 when a range disagrees or could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from attncheck.checks.defect_table import Check, Defect, table
from tests.legacy.environments import cache, variables
from tests.legacy.live_is_causal import findings
from tests.legacy.releases import RELEASES, with_candidates
from tests.legacy.runs import folders


@dataclass(frozen=True)
class End:
    """One end of a range. inside: the release lies in it, and must show the defect."""

    entry: str
    release: str
    inside: bool
    place: str


@dataclass(frozen=True)
class Look:
    """What a release showed. shows: None where it could not be looked at; why says what was seen instead."""

    end: End
    shows: bool | None
    why: str

    @property
    def agrees(self) -> bool:
        """True when the range and the measurement say the same."""
        return self.shows is self.end.inside


def ends(defect: Defect) -> Iterator[End]:
    """The releases at which an entry must be looked at."""
    assert defect.check is not None
    for specifiers in defect.versions["transformers"]:
        releases = with_candidates() if specifiers.prereleases else RELEASES
        inside = [release for release in releases if specifiers.contains(release)]
        if not inside:
            raise ValueError(f"{defect.id}: no release lies in {specifiers}")
        first, last = releases.index(inside[0]), releases.index(inside[-1])
        yield End(defect.id, inside[0], True, "first")
        if last != first:
            yield End(defect.id, inside[-1], True, "last")
        for number, place in ((first - 1, "before"), (last + 1, "after")):
            if 0 <= number < len(releases) and not _covered(defect, releases[number]):
                yield End(defect.id, releases[number], False, place)


def _covered(defect: Defect, release: str) -> bool:
    """True for a neighbour that another range of the entry holds, or in which it cannot be looked for."""
    assert defect.check is not None
    within = any(isinstance(s, SpecifierSet) and s.contains(release) for s in defect.versions["transformers"])
    return within or release in defect.check.blind


def look(check: Check, slugs: Sequence[str]) -> tuple[bool | None, str]:
    """Whether the imported transformers shows one of the slugs where the check looks."""
    from tests.campaigns.versions import examine

    if check.route == "live":
        told = {finding.slug for finding in findings(check.implementation)}
        return bool(told & set(slugs)), ", ".join(sorted(told)) or "right"
    config: dict[str, Any] = {"model_type": check.target}
    for text in check.set:
        key, _, value = text.partition("=")
        config[key] = json.loads(value)
    row = examine(config, (check.implementation, *check.beside), (check.scenario,), check.dtype)
    if "status" not in row:
        return None, str(row.get("absent") or row.get("skipped"))
    cells = [c for c in row["variants"] if c["implementation"] == check.implementation]
    cells = [cell for cell in cells if check.variant in ("", cell["variant"])]
    told = [f for f in row["findings"] if f["implementation"] == check.implementation]
    found = {cell["difference"] for cell in cells} - {None}
    found |= {f["slug"] for f in told if check.variant in ("", *f["variants"])}
    if found & set(slugs):
        return True, ", ".join(sorted(found))
    if not [cell for cell in cells if cell["verdict"] in ("ok", "mismatch")]:
        status = row["status"].get(check.implementation)
        reasons = "; ".join(row["reasons"].get(check.implementation, ()))[:200]
        # A refusal mends a defect as well as a right answer does: of the implementation, or of this input alone.
        refused = status == "rejected" or (bool(cells) and {cell["verdict"] for cell in cells} == {"not_run"})
        return (False if refused else None), f"{'refused' if refused else status}: {reasons}"
    return False, ", ".join(sorted(found)) or "right"


def child(release: str, names: Sequence[str]) -> None:
    """Looks at entries one after another in the release that PYTHONPATH brings; one JSON line each."""
    import torch
    import transformers

    if transformers.__version__ != release:
        raise SystemExit(f"transformers {transformers.__version__} was imported, not {release}")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for entry in table():
        if entry.id in names and entry.check is not None:
            try:
                shows, why = look(entry.check, entry.slugs)
            except Exception as error:
                shows, why = None, f"{type(error).__name__}: {error}"[:300]
            print(json.dumps({"entry": entry.id, "shows": shows, "why": why}), flush=True)


def looks(release: str, wanted: Sequence[End], root: Path) -> list[Look]:
    """What one release shows of the entries whose ends lie there."""
    command = [
        sys.executable,
        "-m",
        "tests.legacy.ranges",
        "--child",
        release,
        "--only",
        ",".join(e.entry for e in wanted),
    ]
    try:
        environment = dict(variables(folders("transformers", release, root), root))
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1800)
        rows = {row["entry"]: row for row in map(json.loads, done.stdout.splitlines())}
        lost = f"the process ended with {done.returncode}: {done.stderr[-300:]}"
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        rows, lost = {}, str(error)[-300:]
    return [
        Look(end, rows[end.entry]["shows"], rows[end.entry]["why"]) if end.entry in rows else Look(end, None, lost)
        for end in wanted
    ]


def main() -> None:
    """Parses the arguments, looks at every end and prints what disagrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="ids of entries, separated by commas")
    parser.add_argument("--cache", type=Path, help="keep installed releases here")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="only list what would be looked at")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name]
    if arguments.child:
        child(arguments.child, names)
        return
    by_release: dict[str, list[End]] = defaultdict(list)
    for defect in table():
        if defect.check is not None and (not names or defect.id in names):
            for end in dict.fromkeys(ends(defect)):
                by_release[end.release].append(end)
    if arguments.dry_run:
        for release in sorted(by_release, key=with_candidates().index):
            print(release, ", ".join(f"{end.entry} ({end.place})" for end in by_release[release]))
        return
    done: list[Look] = []
    with cache(arguments.cache) as root, ThreadPoolExecutor(arguments.jobs) as pool:
        for found in pool.map(
            lambda release: looks(release, by_release[release], root), sorted(by_release, key=with_candidates().index)
        ):
            done += found
            for entry in found:
                said = {True: "shown", False: "not shown", None: "NOT LOOKED AT"}[entry.shows]
                mark = "ok" if entry.agrees else "DISAGREES"
                print(
                    f"{entry.end.release:8} {entry.end.entry} ({entry.end.place}): {said}, {mark}; {entry.why}",
                    flush=True,
                )
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(entry) for entry in done], indent=1))
    for defect in table():
        if defect.unchecked and (not names or defect.id in names):
            print(f"{'-':8} {defect.id}: not measured; {defect.unchecked}")
    agreeing = sum(entry.agrees for entry in done)
    print(f"{agreeing} of {len(done)} ends of {len({e.end.entry for e in done})} entries agree with the measurement")
    sys.exit(0 if done and agreeing == len(done) else 1)


if __name__ == "__main__":
    main()
