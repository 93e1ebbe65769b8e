"""Findings from data: compares what is declared with what was seen. Never runs a kernel; one file per rule group."""

from __future__ import annotations

from attncheck.checks.conclude import evaluate
from attncheck.checks.interface import Conclusion, Inputs, Options
from attncheck.checks.registry import rule, rules
from attncheck.checks.views import layer_groups

__all__ = ["Conclusion", "Inputs", "Options", "evaluate", "layer_groups", "rule", "rules"]
