"""The JSON contract's types for sub-models and for the answer to `--without flash`."""

from __future__ import annotations

from typing import TypedDict


class AskedEntry(TypedDict):
    """One way to ask for attention. implementation: a name, [sub-config key, name] pairs, or null for nothing.

    switches: torch's, as named in `ways` of the documentation. predicted: nothing was run for it.
    """

    name: str
    implementation: str | list[list[str]] | None
    switches: list[str]
    predicted: bool


class PhaseEntry(TypedDict):
    """One call under the profiler. kernels: raw names of what does attention. flash: those that are flash kernels."""

    name: str
    kernels: list[str]
    flash: list[str]
    failure: str


class DeviationEntry(TypedDict):
    """Distance from the output of the first way; null where it is no finite number. top1: null without logits."""

    largest: float | None
    typical: float | None
    spread: float | None
    positions: int
    top1: float | None


class SubModelEntry(TypedDict):
    """One sub-model. requested: "" where nothing was said of it; config: what its config holds; reached: what ran."""

    key: str
    title: str
    module: str
    part: str
    requested: str
    config: str
    reached: list[str]
    effective: str
    phases: list[PhaseEntry]
    deviation: DeviationEntry | None
    missing: str


class AskedRunEntry(TypedDict):
    """What came of one way. flash: null where nothing was proven."""

    asked: AskedEntry
    sub_models: list[SubModelEntry]
    failure: str
    basis: str
    flash: bool | None


class CostEntry(TypedDict):
    """One attention call, forward. seconds, memory (bytes): null where nothing was measured."""

    name: str
    length: int
    seconds: float | None
    memory: int | None
    detail: str


class WithoutEntry(TypedDict):
    """The answer to `--without flash`. head_dims: [sub-config key, width of the heads that were run]."""

    asked: list[AskedRunEntry]
    ways: list[AskedRunEntry]
    costs: list[CostEntry]
    device: str
    dtype: str
    heads: str
    head_dims: list[list[str | int]]
    notes: list[str]
