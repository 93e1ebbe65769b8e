"""Rows of a survey to judge and to draw, without running one."""

from __future__ import annotations

from typing import Any

from attncheck.surveyed import Plan, Row, State, Status, Survey, SurveyCell, SurveyFinding

PLAN = Plan(
    implementations=("eager", "sdpa"),
    scenarios=("plain", "decode", "packed"),
    core=("plain", "decode"),
    dtype="float32",
    device="cpu",
    seed=0,
    versions={"attncheck": "0.1.0", "transformers": "5.23.0", "torch": "2.13.0"},
)


def finding(slug: str = "packing-leak", implementation: str = "sdpa", **fields: Any) -> SurveyFinding:
    """A warning about packed documents unless told otherwise."""
    usual: dict[str, Any] = {
        "code": "ATC201",
        "severity": "warning",
        "scenario": "packed",
        "part": "decoder",
        "layers": (0, 1),
        "variants": ("no-mask",),
        "basis": "measured",
        "message": "Packed documents attend to each other",
        "declared": "own document only",
        "effective": "other documents too",
    }
    return SurveyFinding(slug=slug, implementation=implementation, **{**usual, **fields})


def row(model_type: str = "llama", *findings: SurveyFinding, **fields: Any) -> Row:
    """A row in which every cell is right but those of the findings."""
    wrong = {(found.implementation, found.scenario): found for found in findings}
    cells = []
    for name in PLAN.implementations:
        for scenario in PLAN.scenarios:
            found = wrong.get((name, scenario))
            if found is None:
                cells.append(SurveyCell(name, scenario, State.MEASURED, "measured"))
            else:
                slugs = (found.slug,)
                cells.append(SurveyCell(name, scenario, State.MISMATCH, "measured", slugs, found.severity))
    usual: dict[str, Any] = {"kind": "causal-lm", "method": "calls", "cells": tuple(cells), "last": True}
    return Row(model_type, findings=findings, **{**usual, **fields})


def vision(model_type: str = "vit") -> Row:
    """A type without text."""
    return Row(model_type, status=Status.NO_TEXT, reason="ViTModel reads no text", last=True)


def survey(*rows: Row) -> Survey:
    """A survey of those rows."""
    return Survey(PLAN, rows)
