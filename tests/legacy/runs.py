"""Runs attncheck's commands in a process of their own, with a release in front of what is installed."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.legacy.environments import REPOSITORY, torch_release, transformers_release, variables

#: Seconds one command may take.
LIMIT = 1200.0

Report = dict[str, Any]


class NoReport(Exception):
    """The command printed no JSON; the text is the end of what it said."""


def folders(package: str, version: str, root: Path) -> tuple[Path, ...]:
    """What to put in front for a release; nothing for the one that is installed."""
    installed = importlib.metadata.version(package).partition("+")[0]
    if version == installed:
        return ()
    return torch_release(version, root) if package == "torch" else transformers_release(version, root)


def report(arguments: Sequence[str], path: tuple[Path, ...] = (), root: Path | None = None) -> tuple[int, Report]:
    """Exit code and JSON report of `attncheck ARGUMENTS --format json`. Raises NoReport."""
    return command(["-m", "attncheck", *arguments, "--format", "json"], path, root)


def command(arguments: Sequence[str], path: tuple[Path, ...] = (), root: Path | None = None) -> tuple[int, Report]:
    """Exit code and JSON output of `python ARGUMENTS`. Raises NoReport."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=dict(variables(path, root)),
        cwd=REPOSITORY,
        check=False,
        timeout=LIMIT,
    )
    try:
        return done.returncode, json.loads(done.stdout)
    except json.JSONDecodeError:
        raise NoReport(f"no report, exit {done.returncode}: {done.stderr.strip()[-2000:]}") from None


def compare(*arguments: str, path: tuple[Path, ...] = (), root: Path | None = None) -> tuple[int, Report]:
    """`attncheck compare ARGUMENTS` on the CPU, without a network."""
    return report(["compare", *arguments, "--device", "cpu", "--offline"], path, root)


def slugs(report: Report, implementation: str, scenario: str | None = None) -> set[tuple[str, str | None]]:
    """(slug, basis) of the findings about one implementation, of one scenario or of all."""
    return {
        (finding["slug"], finding["basis"])
        for finding in report["findings"]
        if finding["implementation"] == implementation and scenario in (None, finding["scenario"])
    }


def version_of(report: Report, package: str = "transformers") -> str:
    """The version of a library that the report was made with."""
    return next(str(entry["version"]) for entry in report["environment"]["libraries"] if entry["name"] == package)
