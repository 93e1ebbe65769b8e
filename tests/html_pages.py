"""HTML pages of sample reports, hostile and huge ones among them, and how tests take a page apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from attncheck.findings import Evidence, Finding, Recommendation, Setting, Severity
from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.report import Report
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Part, Window
from attncheck.stored import report as stored
from attncheck.verdicts import LayerGroup
from tests import sample_benches, sample_machines, sample_reports, sample_watches
from tests.builders import causal, spec

_RECORDED = Path(__file__).parent / "gpu" / "recorded"


def _recorded(name: str) -> Report:
    return stored.read(str(_RECORDED / f"{name}.json"))


PAGES: dict[str, Callable[[], Report]] = {
    "healthy": sample_reports.healthy_report,
    "faulty": sample_reports.faulty_report,
    "silent": sample_reports.silent_report,
    "h100": sample_machines.h100_report,
    "cpu": sample_machines.cpu_report,
    "static": sample_machines.static_report,
    "incident": sample_machines.incident_report,
    "bench": sample_benches.standard_report,
    "interrupted": sample_benches.interrupted_report,
    "changed": sample_benches.changed_report,
    "watch": sample_watches.watch_report,
    "settings": lambda: _recorded("llama_factory_fa2"),
    "without": lambda: _recorded("llava_default"),
}
EVIL = (
    "x</code></script><script>alert(1)</script><img src=x onerror=alert(2)> \"' & &amp; \u202eevil <!-- ]]> javascript:"
)


def page(report: Report, **style: object) -> str:
    return interface.render(report, "html", Style(**style))  # type: ignore[arg-type]


def tree(text: str) -> ElementTree.Element:
    """The page as XML, which no browser asks for: it shows that each element is closed and each text escaped."""
    return ElementTree.fromstring(text)


class Elements(HTMLParser):
    """Every element and attribute, as an HTML parser sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text += data


def parsed(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    elements.close()
    return elements


def evil_report() -> Report:
    """Markup wherever a config, a library or a stored report may put text."""
    report = sample_reports.faulty_report()
    assert report.model is not None
    setting = Setting(EVIL, EVIL, EVIL, EVIL)
    evil = Finding(
        "ATC101", EVIL, Severity.ERROR, EVIL, Basis.MEASURED, EVIL, EVIL, Part.DECODER, (0,), EVIL, EVIL,
        Evidence(EVIL, EVIL, EVIL, figures={EVIL: EVIL}, declared_mask=causal(8, 2), effective_mask=causal(8)),
        EVIL, (Recommendation(EVIL, (setting,)),), EVIL,
    )  # fmt: skip
    assert report.recommended is not None
    return dataclasses.replace(
        report,
        version=EVIL,
        model=dataclasses.replace(
            report.model,
            id=EVIL,
            source_detail=EVIL,
            model_type=EVIL,
            notes=tuple(dataclasses.replace(note, code=EVIL, text=EVIL) for note in report.model.notes),
        ),
        arguments={EVIL: EVIL},
        implementations=tuple(dataclasses.replace(entry, name=EVIL) for entry in report.implementations),
        scenarios=(EVIL,),
        core_scenarios=(EVIL,),
        matrix=tuple(
            dataclasses.replace(cell, reason=EVIL, scenario=EVIL, implementation=EVIL, difference=EVIL)
            for cell in report.matrix
        ),
        findings=(evil, *report.findings),
        recommended=dataclasses.replace(report.recommended, implementation=EVIL, why=EVIL),
        environment=dataclasses.replace(report.environment, variables={EVIL: EVIL}, gpu_note=EVIL, driver=EVIL),
    )


def hundred_layers() -> Report:
    """Each of 100 layers declares another window, and each is wrong in its own way, with masks of 96 tokens."""
    report = sample_reports.faulty_report()
    assert report.model is not None
    groups = tuple(
        LayerGroup(Part.DECODER, (layer,), spec(layer, window=Window(4095 + layer, 0))) for layer in range(100)
    )
    lead = report.findings[0]
    ragged = KeepMask.from_rule(96, 96, lambda i, j: j <= i and (i * j) % 3 != 1)
    findings = tuple(
        dataclasses.replace(
            lead,
            slug=f"window-{layer % 40}",
            message=f"{lead.message} In layer {layer}.",
            layers=(layer,),
            reproduction="\n".join(f"line {number} of layer {layer}" for number in range(40)),
            evidence=dataclasses.replace(
                lead.evidence, declared_mask=causal(96, layer % 90 + 2), effective_mask=ragged, first_difference=None
            ),
        )
        for layer in range(100)
    )
    return dataclasses.replace(
        report, model=dataclasses.replace(report.model, num_layers=100, groups=groups), findings=findings
    )
