"""Fresh interpreters prove what may load torch, transformers or anything else heavy, and what may not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "huggingface_hub", "matplotlib")
LIGHT_PACKAGES = (
    "attncheck.semantics",
    "attncheck.declared",
    "attncheck.findings",
    "attncheck.verdicts",
    "attncheck.checks",
    "attncheck.report",
    "attncheck.render",
    "attncheck.stored",
    "attncheck.frameworks",
    "attncheck.backends",
    "attncheck.environment",
    "attncheck.installed",
    "attncheck.doctor",
    "attncheck.explain",
    "attncheck.pipeline",
    "attncheck.comparison",
    "attncheck.bench",
    "attncheck.commands",
    "attncheck.probe.client",
    "attncheck.probe.process",
    "attncheck.probe.scenarios",
)
EVERY_MODULE = """
import importlib, json, pkgutil, sys
packages, heavy = json.loads(sys.argv[1])
for name in packages:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(package, "__path__", []), name + "."):
        importlib.import_module(found.name)
        if set(heavy) & set(sys.modules):
            sys.exit(f"{found.name} loads {sorted(set(heavy) & set(sys.modules))}")
"""
COMMAND = """
import sys
from attncheck.cli import app
try:
    app(sys.argv[1].split())
except SystemExit as end:
    assert end.code in (0, None), end.code
print(*sorted(set(sys.modules) & set(sys.argv[2:])), file=sys.stderr)
"""


def loaded(code: str, *arguments: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_every_module_above_the_probe_loads_nothing_heavy() -> None:
    loaded(EVERY_MODULE, json.dumps([LIGHT_PACKAGES, HEAVY]))


@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "compare --help", "doctor --help", "bench --help", "explain --help", "render --help"],
)
def test_help_loads_neither_torch_nor_pipeline_nor_renderers(command: str) -> None:
    own = ("attncheck.pipeline", "attncheck.render", "attncheck.checks", "attncheck.probe", "attncheck.declared")
    _, stderr = loaded(COMMAND, command, *HEAVY, *own)
    assert stderr.split() == []


@pytest.mark.parametrize("command", ["explain", "explain window-ignored", "doctor --static", "doctor --list-checks"])
def test_commands_without_a_probe_load_nothing_heavy(command: str) -> None:
    _, stderr = loaded(COMMAND, command, *HEAVY)
    assert stderr.split() == []
