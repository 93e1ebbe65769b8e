"""Known defects of training frameworks: their rows say what the tables beside each framework's plug-in say."""

from __future__ import annotations

import pytest

from attncheck.checks.defect_table import table
from attncheck.checks.defects import known, known_together
from attncheck.checks.machine import Machine
from attncheck.findings import Finding, Severity
from attncheck.frameworks import unsloth_defects
from attncheck.frameworks.llama_factory_versions import Packed, release
from attncheck.frameworks.llava_versions import PLACEHOLDER
from attncheck.frameworks.transformer_engine_layers import NOTHING_SEEN
from attncheck.frameworks.transformer_engine_packages import FLASH_4, KNOWS_SINCE
from attncheck.frameworks.unsloth_history import NEWEST, OLDEST
from attncheck.semantics.convention import Convention, Outcome
from attncheck.semantics.observation import Basis
from tests.backends.environments import CPU_ONLY, H100, with_libraries

BY_ID = {entry.id: entry for entry in table()}


def ids(machine: Machine) -> dict[str, Finding]:
    return {str(finding.evidence.figures["entry"]): finding for finding in known(machine)}


def test_defects_of_a_framework_are_one_note_that_says_how_to_ask() -> None:
    found = list(known_together(Machine(with_libraries(CPU_ONLY, {"unsloth": "2026.1.4", "llamafactory": "0.9.4"}))))
    for library, word in (("unsloth", "unsloth"), ("llamafactory", "llama-factory")):
        (together,) = (f for f in found if f"{library} " in f.evidence.requested)
        assert (together.severity, together.basis) == (Severity.NOTE, Basis.STATIC)
        assert together.recommendations[0].settings[0].paste == f"attncheck compare MODEL --framework {word}"
        entries = str(together.evidence.figures["entries"]).split(", ")
        assert len(entries) > 1
        assert all(library in BY_ID[name].versions for name in entries)


@pytest.mark.parametrize("read", unsloth_defects.DEFECTS, ids=lambda read: read.name)
def test_unsloth_rows_have_the_spans_that_were_read_in_the_wheels(read: unsloth_defects.Defect) -> None:
    row = BY_ID[f"unsloth-{read.name}"]
    others = dict.fromkeys([name for name in row.versions if name != "unsloth"], "2.8.3")
    for version in (read.span.first, read.span.last or NEWEST):
        assert row.matches(others | {"unsloth": version}), version
    for version in (read.mended, "2024.7" if read.span.first == OLDEST else ""):
        assert not version or not row.matches(others | {"unsloth": version}), version


def test_what_transformer_engine_makes_of_flash_attn_4() -> None:
    row = BY_ID["transformer-engine-flash-4-zeros"]
    hopper = [(9, 0)]
    first = {"transformer-engine": KNOWS_SINCE[FLASH_4], "flash-attn-4": str(NOTHING_SEEN)}
    assert row.matches(first, hopper)
    assert not row.matches(first | {"transformer-engine": "2.15"}, hopper)
    assert not row.matches(first | {"flash-attn-4": "4.0.0b29"}, hopper)
    assert not row.matches({name: first[name] for name in ("transformer-engine",)}, hopper)
    found = ids(Machine(H100, conventions=()))["transformer-engine-flash-4-zeros"]
    assert (found.severity, found.basis) == (Severity.WARNING, Basis.STATIC)
    call = 'attn_mask_type="causal", window_size=(-1, 0)'
    zeros = Convention("te-flash-4", call, "unbounded", 64, 64, Outcome.READ, Basis.MEASURED, empty_rows=64)
    assert "transformer-engine-flash-4-zeros" not in ids(Machine(H100, conventions=(zeros,))), "its own rule tells it"


@pytest.mark.parametrize(
    ("libraries", "entry"),
    [
        ({"llava": "1.1.3"}, "llava-patched-attention"),
        ({"llava-torch": "1.1.1"}, "llava-patched-attention"),
        ({"llava": "0.0.1.dev0", "llava-torch": "1.2.2.post1"}, "llava-false-is-not-eager"),
        ({"llava": "1.7.0.dev0"}, "llava-next-flash-default"),
    ],
)
def test_llava_is_known_by_both_its_names(libraries: dict[str, str], entry: str) -> None:
    found = ids(Machine(with_libraries(CPU_ONLY, libraries)))
    eras = {"llava-patched-attention", "llava-false-is-not-eager", "llava-next-flash-default"}
    assert eras & set(found) == {entry}
    assert "llava-vision-tower" in found


def test_the_empty_llava_of_the_index_matches_nothing() -> None:
    assert not [name for name in ids(Machine(with_libraries(CPU_ONLY, {"llava": PLACEHOLDER}))) if "llava" in name]


@pytest.mark.parametrize("version", ["0.7.1", "0.8.2", "0.8.3", "0.9.5"])
def test_llama_factory_rows_follow_its_resolver(version: str) -> None:
    read, library = release(version), {"llamafactory": version}
    assert BY_ID["llama-factory-off-is-false"].matches(library) is (read.implementation("off") is not None)
    assert BY_ID["llama-factory-neat-packing-window"].matches(library) is (read.packed is not Packed.NONE)
