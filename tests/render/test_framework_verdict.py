"""The verdict line of a framework's section never says "right" beside an error about what runs."""

from __future__ import annotations

from typing import Any

from attncheck.environment import Environment
from attncheck.findings import Evidence, Finding, Severity
from attncheck.frameworks.plugin import SubModel
from attncheck.frameworks.section import FrameworkSection, Kind
from attncheck.render.framework import part_words, verdict
from attncheck.render.matrix import cell_text
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


def of_cells(*cells: Cell, findings: tuple[Finding, ...] = ()) -> tuple[Verdict, str]:
    section = FrameworkSection("some", "Some", "1.0", "asked", Kind.OWN, "Some backend")
    return verdict(Report("compare", "0", Environment("3.11", "Linux", ()), matrix=cells, findings=findings), section)


def own(kernel: str, wrong: bool, scenario: str = "plain") -> Cell:
    found = Verdict.MISMATCH if wrong else Verdict.OK
    return Cell("some", scenario, "", None, (0,), found, Basis.MEASURED, kernel, "wrong-thing" if wrong else None)


def warned(kernel: str = "", scenario: str = "plain") -> Finding:
    return finding(implementation="some", severity=Severity.WARNING, kernel=kernel, scenario=scenario)


def test_a_kernel_that_does_not_run_leaves_the_verdict_on_the_one_that_does() -> None:
    cells = (own("", wrong=False), own("other", wrong=True))
    assert of_cells(*cells) == (Verdict.OK, "right in 1 scenario (measured)")
    said = of_cells(*cells, findings=(warned("other"),))
    assert said == (
        Verdict.OK,
        "right in 1 scenario (measured); wrong where it is picked: other (wrong-thing in plain)",
    )
    both = of_cells(*cells, findings=(warned("other"), warned(scenario="packed")))
    assert both[1].startswith("right in 1 scenario (measured); mind wrong-thing in packed; wrong where it is picked")


def test_kernels_beside_the_one_that_runs_are_no_verdict_on_it() -> None:
    assert of_cells(own("other", wrong=False))[0] is Verdict.NOT_RUN


def test_nothing_is_right_in_no_scenario() -> None:
    assert of_cells(own("", wrong=True), findings=(warned(),)) == (
        Verdict.OK,
        "no error in plain (measured); mind wrong-thing in plain",
    )


def test_the_cell_of_the_table_is_about_the_one_that_runs() -> None:
    section = FrameworkSection("some", "Some", "1.0", "asked", Kind.OWN, "Some backend")

    def cell(*cells: Cell, findings: tuple[Finding, ...] = ()) -> str:
        made = Report(
            "compare", "0", Environment("3.11", "Linux", ()), matrix=cells, findings=findings, framework=section
        )
        return cell_text(made, "some", "plain").plain

    right, other = own("", wrong=False), own("other", wrong=True)
    assert cell(right) == "✓ ok"
    assert cell(right, other, findings=(warned("other"),)) == "✓ ok, but not other"
    assert cell(own("", wrong=True), other, findings=(warned(),)) == "! wrong-thing"
    assert cell(own("third", wrong=False)) == "○ NOT RUN"


def test_a_sub_model_says_on_what_its_row_rests() -> None:
    assert part_words(SubModel("vision tower", "nothing", "sdpa")) == "asked for nothing, runs sdpa (static)"
