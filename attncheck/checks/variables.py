"""Rules about environment variables: what those that are set do to attention, and which are set in vain."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck
from attncheck.environment import Environment
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.semantics.observation import Basis

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIABLE_ACTS = Rule(
    "ATC832",
    "variable-acts",
    "An environment variable changes attention",
    "A variable that an installed library really reads is set to a value that changes which kernel runs or how.",
    "Set in a shell profile or a container image, it acts on every run and shows in no script.",
    "Static: the environment of this process, and for each variable the code that reads it.",
    "Unset it if its effect is not wanted.",
    ("transformers: modeling_flash_attention_utils.py", "TransformerEngine: get_attention_backend", "unsloth#1014"),
)
VARIABLE_INERT = Rule(
    "ATC833",
    "variable-inert",
    "An environment variable is set in vain",
    "A variable that is often recommended for switching attention off or on is set, but no installed library reads it, "
    "or it does not know the value.",
    "What was meant to be switched off still runs.",
    "Static: the name was searched in the sources and binaries of the libraries.",
    "Use the setting that does what the variable's name promises.",
    ("flash-attention#1334", "LLaVA#1141"),
)
#: Another rule speaks about them: it has a severity of its own.
FLEX_SWITCHES = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE")
#: What is said of a variable that is set.
ACTS, IDLE, UNREAD = "acts", "no effect with this value", "nothing installed reads it"
#: Variables that act on where files come from, not on attention, and the values that switch them on
#: (huggingface_hub/constants.py).
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_ON = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True, slots=True)
class Acting:
    """A variable that acts. Fields as in variables.toml; other and only are "" where the file has none."""

    name: str
    read_by: str
    source: str
    idle: tuple[str, ...]
    values: Mapping[str, str]
    other: str = ""
    only: str = ""

    def effect(self, value: str) -> str:
        """What this value does, "" when nothing."""
        return "" if value in self.idle else self.values.get(value, self.other)


@dataclass(frozen=True, slots=True)
class Inert:
    """Variables that nobody reads; remark: who does, if anyone. advice: what does what their names promise."""

    names: tuple[str, ...]
    remark: str
    advice: Recommendation


@cache
def acting() -> tuple[Acting, ...]:
    """Every variable of variables.toml that acts."""
    return tuple(
        Acting(**{**entry, "idle": tuple(entry["idle"]), "values": dict(entry["values"])})
        for entry in _file()["acting"]
    )


@cache
def inert() -> tuple[Inert, ...]:
    """Every group of variables that is set in vain."""
    return tuple(
        Inert(
            tuple(entry["names"]),
            entry.get("remark", ""),
            Recommendation(
                entry["instead"], (Setting(entry["framework"], entry["key"], entry["value"], entry["paste"]),)
            ),
        )
        for entry in _file()["inert"]
    )


def _file() -> Mapping[str, Any]:
    found: Mapping[str, Any] = tomllib.loads(
        files("attncheck.checks").joinpath("variables.toml").read_text(encoding="utf-8")
    )
    return found


def effect_word(environment: Environment, name: str) -> str:
    """`ACTS`, `IDLE` or `UNREAD` for a variable that is set here. Raises KeyError for one that is not."""
    if name in environment.inert:
        return UNREAD
    value = environment.variables[name]
    if name in _OFFLINE:
        return ACTS if value.upper() in _ON else IDLE
    entry = next((entry for entry in acting() if entry.name == name), None)
    if entry is None:
        return ACTS
    if environment.version(entry.read_by) is None:
        return UNREAD
    return ACTS if entry.effect(value) else IDLE


def effects(machine: Machine) -> Iterator[Finding]:
    """A note for each variable that changes attention here."""
    environment = machine.environment
    for entry in acting():
        value = environment.variables.get(entry.name)
        if value is None or entry.name in FLEX_SWITCHES or environment.version(entry.read_by) is None:
            continue
        if effect := entry.effect(value):
            yield _finding(
                VARIABLE_ACTS,
                entry.name,
                f"{entry.name}={value!r} is set: {effect}",
                Evidence(requested=f"{entry.name}={value}", effective=effect, figures={"read by": _reader(entry)}),
                Recommendation(
                    f"If that is not wanted: unset {entry.name}",
                    (Setting("shell", entry.name, "unset", f"unset {entry.name}"),),
                ),
            )


def in_vain(machine: Machine) -> Iterator[Finding]:
    """A note for each variable that nobody reads, or that has a value nobody knows."""
    environment = machine.environment
    for group in inert():
        for name in (name for name in group.names if name in environment.inert):
            value = environment.inert[name]
            remark = f" ({group.remark})" if group.remark else ""
            message = (
                f"{name}={value!r} is set, but no attention library reads it{remark}: it acts on nothing, unless your own "
                f"code reads it"
            )
            evidence = Evidence(requested=f"{name}={value}", effective="read by no attention library")
            yield _finding(VARIABLE_INERT, name, message, evidence, group.advice)
    for entry in acting():
        given = environment.variables.get(entry.name)
        if given is None or not entry.only or given in (entry.only, *entry.idle, *entry.values):
            continue
        if environment.version(entry.read_by) is not None:
            message = f"{entry.name}={given!r} is set, but only the value {entry.only} acts"
            evidence = Evidence(
                declared=f"{entry.name}={entry.only}",
                requested=f"{entry.name}={given}",
                figures={"read by": _reader(entry)},
            )
            paste = f"export {entry.name}={entry.only}"
            advice = Recommendation(
                f"Set it to {entry.only}, or unset it.", (Setting("shell", entry.name, entry.only, paste),)
            )
            yield _finding(VARIABLE_INERT, entry.name, message, evidence, advice)


def _reader(entry: Acting) -> str:
    return f"{entry.read_by} ({entry.source})"


def _finding(rule: Rule, name: str, message: str, evidence: Evidence, advice: Recommendation) -> Finding:
    return Finding(
        rule.code,
        rule.slug,
        Severity.NOTE,
        message,
        Basis.STATIC,
        evidence=evidence,
        reproduction=f"printenv {name}",
        recommendations=(advice,),
    )


GROUP = RuleGroup(
    "variables",
    (VARIABLE_ACTS, VARIABLE_INERT),
    order=94,
    machine=(MachineCheck(VARIABLE_ACTS, effects), MachineCheck(VARIABLE_INERT, in_vain)),
)
