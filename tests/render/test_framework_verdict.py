"""The verdict line of a framework's section never says "right" beside an error about what runs."""

from __future__ import annotations

from typing import Any

from attncheck.environment import Environment
from attncheck.findings import Evidence, Finding, Severity
from attncheck.frameworks.plugin import SubModel
from attncheck.frameworks.section import FrameworkSection, Kind
from attncheck.render.framework import part_words, verdict
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import Cell, Verdict

RIGHT = Cell("sdpa", "plain", "", None, (0,), Verdict.OK, Basis.MEASURED)


def finding(**fields: Any) -> Finding:
    known = {
        "code": "ATC100",
        "slug": "wrong-thing",
        "severity": Severity.ERROR,
        "message": "m",
        "evidence": Evidence(),
    }
    return Finding(**{**known, "basis": Basis.STATIC, "implementation": "sdpa", **fields})


def of(kind: Kind, *findings: Finding, measured: bool = False) -> tuple[Verdict, str]:
    section = FrameworkSection("some", "Some", "1.0", "asked", kind, "sdpa", measured=measured)
    return verdict(
        Report("compare", "0", Environment("3.11", "Linux", ()), matrix=(RIGHT,), findings=findings), section
    )


def test_an_error_that_no_scenario_has_is_an_error_with_its_own_basis() -> None:
    assert of(Kind.RUNS) == (Verdict.OK, "right in 1 scenario (measured)")
    assert of(Kind.RUNS, finding()) == (Verdict.MISMATCH, "wrong: wrong-thing (static)")
    named = finding(scenario="neat-packing", basis=Basis.MEASURED)
    assert of(Kind.RUNS, named) == (Verdict.MISMATCH, "wrong: wrong-thing in neat-packing (measured)")
    assert of(Kind.RUNS, finding(implementation="eager"))[0] is Verdict.OK


def test_a_micro_run_that_found_an_error_is_no_success() -> None:
    assert of(Kind.OWN, measured=True)[0] is Verdict.OK
    assert of(Kind.OWN, finding(), measured=True)[0] is Verdict.OK  # read in the source, and not what was measured
    assert of(Kind.OWN, finding(basis=Basis.MEASURED), measured=True)[0] is Verdict.MISMATCH
    assert of(Kind.OWN)[0] is Verdict.NOT_RUN


def test_a_sub_model_says_on_what_its_row_rests() -> None:
    assert part_words(SubModel("vision tower", "nothing", "sdpa")) == "asked for nothing, runs sdpa (static)"
