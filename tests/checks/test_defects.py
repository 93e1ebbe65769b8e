"""The table of known defects: rows parse, fire at the edges of their versions only, and measuring decides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from attncheck import doctor
from attncheck.backends import interface as backends
from attncheck.checks import defects, registry
from attncheck.checks.defect_table import CUDNN, Defect, installed, parsed, table
from attncheck.checks.defects import explain_mismatches, known, known_together, reading
from attncheck.checks.interface import Case, Inputs, Options
from attncheck.checks.machine import Machine
from attncheck.environment import LIBRARIES, Environment, Gpu, Library
from attncheck.findings import Finding, Severity
from attncheck.frameworks import transformers as framework
from attncheck.installed.inventory import Inventory
from attncheck.installed.state import TorchState
from attncheck.probe.defects import API, STEPS
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.observation import Basis, Crashed, Observed, Rejected, ScenarioRun
from attncheck.semantics.spec import AttentionSpec, MaskSpec, ModelSpec, Part, Window
from tests.backends.environments import B200, CPU_ONLY, H100, with_libraries

BY_ID = {entry.id: entry for entry in table()}
ENTRIES = pytest.mark.parametrize("entry", table(), ids=lambda entry: entry.id)


def versions_near(alternatives: tuple[SpecifierSet, ...]) -> Iterator[str]:
    """Versions below, at and above every boundary that the specifiers name."""
    yield from ("0.0.1", "9999")
    for boundary in (Version(part.version) for specifiers in alternatives for part in specifiers):
        numbers = [*boundary.release, 0, 0][:3]
        yield str(boundary)
        for place in range(3):
            for step in (-1, 1):
                moved = [*numbers]
                moved[place] += step
                if min(moved) >= 0:
                    yield ".".join(map(str, moved))


def inside(entry: Defect, name: str) -> list[str]:
    return [
        text
        for text in versions_near(entry.versions[name])
        if any(specifiers.contains(text, prereleases=True) for specifiers in entry.versions[name])
    ]


def outside(entry: Defect, name: str) -> list[str]:
    return [text for text in versions_near(entry.versions[name]) if text not in inside(entry, name)]


def affected(entry: Defect) -> dict[str, str]:
    """Libraries under which the entry holds."""
    return dict.fromkeys(entry.one_of, "1.0") | {name: inside(entry, name)[0] for name in entry.versions}


def gpus(entry: Defect) -> list[tuple[int, int]]:
    return [] if entry.gpu is None else [entry.gpu[0]]


@ENTRIES
def test_every_row_says_all_it_must(entry: Defect) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]+", entry.id)
    assert entry.threads
    assert all(re.search(r"#\d+|: |measured", thread) for thread in entry.threads), entry.threads
    for text in (entry.title, entry.condition, entry.effect, entry.command, entry.workaround.text):
        assert text.strip()
    assert not entry.title.endswith(".")
    (setting,) = entry.workaround.settings
    assert setting.framework
    assert setting.key
    assert setting.value
    assert setting.paste
    assert entry.evidence in ("measured", "run on CPU", "read in source", "thread")
    assert entry.severity is not Severity.ERROR
    assert entry.confirmed.rank >= entry.severity.rank


@ENTRIES
def test_every_row_speaks_of_things_that_exist(entry: Defect) -> None:
    known_names = {*LIBRARIES, CUDNN}
    assert {*entry.versions, *entry.one_of, *entry.absent} <= known_names
    assert entry.gpu is None or entry.gpu[0] <= entry.gpu[1]
    assert set(entry.implementations) <= set(framework.implementations())
    assert all(registry.rule(slug) is not None for slug in entry.slugs)
    assert bool(entry.slugs) == bool(entry.implementations)
    if entry.told_by is not None:
        slug, field = entry.told_by
        (check,) = (check for check in doctor.machine_checks() if check.rule.slug == slug)
        assert field in ("environment", *check.needs), f"{slug} reads {check.needs} and would not look"
    if entry.probe is not None:
        assert entry.probe.kind in ("ability", "convention")
        assert entry.probe.api in backends.apis()
        if entry.probe.kind == "convention":
            _, api = backends.apis()[entry.probe.api]
            assert any(entry.probe.words in spelling.text for spelling in api.spellings)
    for slug in re.findall(r"--check (\S+)", entry.command):
        assert registry.rule(slug) is not None


def test_what_is_confirmed_by_a_step_has_an_entry_and_the_other_way_round() -> None:
    asked = {entry.probe.words for entry in table() if entry.probe is not None and entry.probe.api == API}
    assert set(STEPS) <= asked
    assert asked - set(STEPS) == {"empty-rows"}


@ENTRIES
def test_a_row_fires_inside_its_versions_and_is_quiet_outside(entry: Defect) -> None:
    good = affected(entry)
    for name in entry.versions:
        assert inside(entry, name)
        for version in inside(entry, name):
            assert entry.matches(good | {name: version}, gpus(entry)), (name, version)
        for version in outside(entry, name):
            assert not entry.matches(good | {name: version}, gpus(entry)), (name, version)
        assert not entry.matches({other: good[other] for other in good if other != name}, gpus(entry))


@ENTRIES
def test_a_row_is_quiet_on_other_gpus_and_other_installations(entry: Defect) -> None:
    good = affected(entry)
    if entry.gpu is not None:
        (low_major, _), (high_major, high_minor) = entry.gpu
        assert entry.matches(good, [(high_major, high_minor)])
        assert not entry.matches(good, [])
        assert not entry.matches(good, [(low_major - 1, 9), (high_major, high_minor + 1)])
        assert entry.matches(good, [(low_major - 1, 9), entry.gpu[0]]), "one GPU of several is enough"
    for name in entry.absent:
        assert not entry.matches(good | {name: "1.0"}, gpus(entry))
    if entry.one_of:
        without = {name: version for name, version in good.items() if name not in entry.one_of}
        if not set(entry.one_of) & set(entry.versions):
            assert not entry.matches(without, gpus(entry))


@pytest.mark.parametrize("version", ["", "unknown", "2.x", "2.11.0+cu130!", "git-main", "None", "٢.١"])
def test_a_version_that_is_none_matches_nothing_and_breaks_nothing(version: str) -> None:
    environment = with_libraries(H100, dict.fromkeys(LIBRARIES, version))
    assert list(known(Machine(environment))) == []
    assert list(known(Machine(H100, torch=TorchState("2.11.0", cudnn=version)))) != []


def test_local_versions_and_pre_releases_count() -> None:
    assert parsed("2.11.0+cu130") is not None
    entry = BY_ID["sdpa-cudnn-nan-gradients"]
    assert entry.matches({"torch": "2.11.0+cu130"}, [(9, 0)])
    assert entry.matches({"torch": "2.12.0.dev20260101"}, [(9, 0)])
    assert not entry.matches({"torch": "2.10.0+cu128"}, [(9, 0)])


def test_the_cudnn_that_counts_is_the_one_torch_loads() -> None:
    both = with_libraries(H100, {"nvidia-cudnn-cu12": "9.1.0.70", "nvidia-cudnn-cu13": "9.19.0.56"})
    assert installed(both)[CUDNN] == "9.19.0.56"
    assert installed(both, "9.20.0")[CUDNN] == "9.20.0"
    assert CUDNN not in installed(CPU_ONLY)


def ids(machine: Machine) -> dict[str, Finding]:
    return {str(finding.evidence.figures["entry"]): finding for finding in known(machine)}


def test_the_recorded_machine_matches_what_was_seen_there() -> None:
    found = ids(Machine(H100, inventory=Inventory()))
    assert {"sdpa-cudnn-nan-gradients", "sdpa-cudnn-empty-rows", "flash-attn-4-unbounded-left"} <= set(found)
    assert "sdpa-cudnn-few-kv-heads" not in found
    assert "sdpa-cudnn-few-kv-heads" in ids(Machine(B200))
    for finding in found.values():
        assert finding.severity is not Severity.ERROR
        assert finding.basis is Basis.STATIC
        assert finding.recommendations
        assert finding.reproduction
        assert finding.implementation is None


def test_defects_of_some_models_are_one_note() -> None:
    every, told = list(known(Machine(H100))), list(known_together(Machine(H100)))
    some = [
        f
        for f in every
        if f.severity is Severity.NOTE and "transformers" in BY_ID[str(f.evidence.figures["entry"])].versions
    ]
    assert len(some) > 1
    assert [finding for finding in told if "entry" in finding.evidence.figures] == [f for f in every if f not in some]
    (together,) = (finding for finding in told if "entries" in finding.evidence.figures)
    assert together.severity is Severity.NOTE
    for finding in some:
        assert BY_ID[str(finding.evidence.figures["entry"])].title in together.message
    assert together.recommendations[0].settings[0].paste == "attncheck compare MODEL"
    titles = [f"- {BY_ID[name].title}" for name in str(together.evidence.figures["entries"]).split(", ")]
    assert together.headline.splitlines()[1:] == titles


def test_one_of_some_models_alone_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defects, "table", lambda: (BY_ID["transformers-doge-flex"],))
    (alone,) = known_together(Machine(CPU_ONLY))
    assert "Doge" in alone.message
    assert "entry" in alone.evidence.figures


def test_a_machine_that_matches_nothing_has_no_finding() -> None:
    clean = Environment("3.12", "Linux", (Library("torch", "2.13.0+cpu"), Library("transformers", None)), torch_cuda="")
    assert list(known(Machine(clean))) == []
    newer = with_libraries(CPU_ONLY, {"transformers": "5.24.0"})
    assert list(known(Machine(newer))) == []


def test_what_another_rule_looked_at_is_left_to_it() -> None:
    assert "flash-attn-2-over-flash-attn-4" in ids(Machine(H100))
    assert "flash-attn-2-over-flash-attn-4" not in ids(Machine(H100, inventory=Inventory()))
    t4 = replace(H100, gpus=(Gpu(0, "Tesla T4", (7, 5), 1 << 34),))
    assert "flash-attn-turing" not in ids(Machine(t4))
    assert BY_ID["flash-attn-turing"].matches(installed(t4), [(7, 5)])


def ability(feature: str, outcome: Outcome, agrees: bool | None, **more: object) -> Ability:
    basis = Basis.MEASURED if outcome is Outcome.READ else None
    return Ability(API, feature, "", outcome, basis, agrees, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "agrees", "severity", "basis", "words"),
    [
        (Outcome.READ, False, Severity.ERROR, Basis.MEASURED, "seen here: 5 keys: off by 3"),
        (Outcome.READ, True, Severity.NOTE, Basis.MEASURED, "not seen here (measured)"),
        (Outcome.REFUSED, None, Severity.NOTE, Basis.MEASURED, "not seen here (the kernel refuses the call)"),
        (Outcome.CRASHED, None, Severity.WARNING, Basis.STATIC, "matches a known defect"),
        (Outcome.NOT_RUN, None, Severity.WARNING, Basis.STATIC, "matches a known defect"),
        (Outcome.READ, None, Severity.WARNING, Basis.STATIC, "matches a known defect"),
    ],
)
def test_measuring_decides(outcome: Outcome, agrees: bool | None, severity: Severity, basis: Basis, words: str) -> None:
    row = ability("few-kv-heads", outcome, agrees, detail="5 keys: off by 3", figures={"cases": 21})
    finding = ids(Machine(B200, confirmations=(row,)))["sdpa-cudnn-few-kv-heads"]
    assert (finding.severity, finding.basis) == (severity, basis)
    assert words in finding.message


def test_confirmed_nan_gradients_are_a_warning_nobody_asked_for_training() -> None:
    row = ability("masked-backward-704", Outcome.READ, False)
    finding = ids(Machine(H100, confirmations=(row,)))["sdpa-cudnn-nan-gradients"]
    assert (finding.severity, finding.basis) == (Severity.WARNING, Basis.MEASURED)


@pytest.mark.parametrize(("contents", "seen"), [("0", False), ("row sum 1", True), ("mean of V", True), ("NaN", True)])
def test_empty_rows_are_judged_by_what_they_hold(contents: str, seen: bool) -> None:
    row = ability("empty-rows", Outcome.READ, True, figures={"bool": contents, "finfo.min": "mean of V"})
    finding = ids(Machine(H100, abilities=(row,))).get("sdpa-cudnn-empty-rows")
    assert (finding is None) is seen, "a rule of the table of abilities tells what was seen"
    if finding is not None:
        assert "not seen here" in finding.message
        assert finding.basis is Basis.MEASURED
    other = ability("empty-rows", Outcome.READ, True, figures={"-inf": "0"})
    assert ids(Machine(H100, abilities=(other,)))["sdpa-cudnn-empty-rows"].basis is Basis.STATIC


@pytest.mark.parametrize(
    ("empty_rows", "agrees", "seen"), [(64, None, True), (64, False, True), (0, None, False), (0, True, False)]
)
def test_the_convention_table_decides_about_flash_attn_4(empty_rows: int, agrees: bool | None, seen: bool) -> None:
    rows = tuple(
        Convention(
            "flash-attn-4",
            call,
            "unbounded",
            64,
            64,
            Outcome.READ,
            Basis.MEASURED,
            empty_rows=rows,
            agrees=right,
        )
        for call, rows, right in (
            ("window_size=(-1, 0)", 0, True),
            ("causal=True, window_size=(-1, 0)", empty_rows, agrees),
            ("causal=True, window_size=(8, 0)", 64, False),
        )
    )
    finding = ids(Machine(H100, conventions=rows)).get("flash-attn-4-unbounded-left")
    assert (finding is None) is seen, "a rule of the convention table tells what was seen"
    assert seen or (finding is not None and finding.severity is Severity.NOTE)
    assert ids(Machine(H100, conventions=()))["flash-attn-4-unbounded-left"].severity is Severity.WARNING


def test_no_reading_is_no_verdict() -> None:
    machine = Machine(H100, conventions=(), abilities=(), confirmations=())
    assert all(reading(entry, machine) is None for entry in table())


def mismatch(slug: str, implementation: str, **more: object) -> Finding:
    return Finding(  # type: ignore[misc]
        "ATC1", slug, more.pop("severity", Severity.ERROR), "m", more.pop("basis", Basis.MEASURED), implementation
    )


def explained(version: str, model_type: str, finding: Finding) -> list[str]:
    spec = ModelSpec(model_type, ())
    inputs = Inputs("t", spec, spec, lambda _: spec, (), versions={"transformers": version, "torch": "2.13.0"})
    found = list(explain_mismatches(Case(inputs, (), (finding,))))
    for entry in found:
        assert (entry.severity, entry.basis) == (Severity.NOTE, Basis.STATIC)
        assert entry.implementation == finding.implementation
        assert finding.slug in entry.message
        assert entry.recommendations
    return [str(entry.evidence.figures["entry"]) for entry in found]


def test_a_mismatch_of_a_known_release_is_explained_beside_it() -> None:
    short = mismatch("window-off-by-one", "flash_attention_2")
    assert explained("4.55.4", "mistral", short) == ["transformers-flash-window-plus-one"]
    assert explained("4.56.0", "mistral", short) == []
    assert explained("5.2.0", "mistral", short) == ["transformers-flash-two-sided-window"]
    assert explained("5.24.0", "mistral", short) == []
    assert explained("4.48.3", "qwen2", mismatch("window-ignored", "sdpa")) == ["transformers-qwen2-window-ignored"]
    assert explained("4.49.0", "qwen2", mismatch("window-ignored", "sdpa")) == []
    assert explained("4.48.3", "llama", mismatch("window-ignored", "sdpa")) == []
    assert explained("not a version", "qwen2", mismatch("window-ignored", "sdpa")) == []


def test_healthy_pairs_and_what_nobody_needs_are_not_explained() -> None:
    for level in (Severity.NOTE, Severity.WARNING):
        assert explained("4.48.3", "qwen2", mismatch("window-ignored", "sdpa", severity=level)) == []
    assert explained("4.48.3", "qwen2", mismatch("scale-wrong", "sdpa")) == []
    spec = ModelSpec("qwen2", ())
    inputs = Inputs("t", spec, spec, lambda _: spec, (), versions={"transformers": "4.48.3"})
    assert list(explain_mismatches(Case(inputs, (), ()))) == []


def test_an_explanation_says_which_release_mends_it() -> None:
    spec = ModelSpec("mistral", ())
    for version, words in (
        ("4.55.4", "fixed in transformers 4.56.0"),
        ("5.23.0", "no release of transformers is known"),
    ):
        inputs = Inputs("t", spec, spec, lambda _: spec, (), versions={"transformers": version})
        (found,) = explain_mismatches(Case(inputs, (), (mismatch("window-off-by-one", "flash_attention_2"),)))
        assert words in found.message
        assert words in found.headline


WINDOWED = ModelSpec("mistral", (AttentionSpec(Part.DECODER, 0, mask=MaskSpec(Window(7, 0))),))


def unmeasured(spec: ModelSpec, *runs: ScenarioRun, **fields: object) -> list[str]:
    inputs = Inputs(
        "t",
        spec,
        spec,
        lambda _: spec,
        runs,
        ("flash_attention_2",),
        versions={"transformers": "4.55.4"},
        **fields,  # type: ignore[arg-type]
    )
    found = list(explain_mismatches(Case(inputs, (), ())))
    assert all((f.severity, f.basis) == (Severity.NOTE, Basis.STATIC) for f in found)
    assert all("nothing was measured" in f.message for f in found)
    return [str(f.evidence.figures["entry"]) for f in found]


def test_what_nothing_could_decide_is_told_by_version() -> None:
    crashed = ScenarioRun("flash_attention_2", "plain", "", Basis.PREDICTED, Crashed("signal", "died"))
    assert unmeasured(WINDOWED, crashed) == ["transformers-flash-window-plus-one"]
    assert unmeasured(WINDOWED) == ["transformers-flash-window-plus-one"]


def test_what_was_measured_or_refused_or_does_not_concern_the_model_is_not_told_by_version() -> None:
    right = ScenarioRun("flash_attention_2", "plain", "", Basis.PREDICTED, Observed(()))
    assert unmeasured(WINDOWED, right) == []
    assert unmeasured(ModelSpec("llama", ())) == []
    assert unmeasured(WINDOWED, refused={"flash_attention_2": Rejected(())}) == []


def test_what_needs_a_scenario_is_told_to_those_who_asked_for_it() -> None:
    spec = ModelSpec("llama", ())
    assert unmeasured(spec, options=Options(scenarios=frozenset(("packed-batch",)))) == [
        "transformers-flash-packed-batch"
    ]


def test_one_explanation_for_all_that_an_entry_explains() -> None:
    spec = ModelSpec("llama", ())
    inputs = Inputs("t", spec, spec, lambda _: spec, (), versions={"transformers": "5.23.0"})
    leaks = [
        replace(mismatch("packing-leak", implementation), scenario=name, part=Part.DECODER)
        for name in ("packed", "packed-cache")
        for implementation in ("sdpa", "eager")
    ]
    (finding,) = explain_mismatches(Case(inputs, (), leaks))
    assert finding.implementation is None
    assert "packing-leak under sdpa, eager" in finding.message
