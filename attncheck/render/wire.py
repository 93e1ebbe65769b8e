"""The JSON contract's own types (schema 1). They change only by adding; domain types are converted in `json.py`."""

from __future__ import annotations

from typing import Any, TypedDict

from attncheck.render.wire_baseline import BaselineEntry
from attncheck.render.wire_bench import BenchEntry, ChangesEntry
from attncheck.render.wire_doctor import AbilityEntry, ConventionEntry, IncidentEntry, InventoryEntry, TorchEntry
from attncheck.render.wire_framework import FrameworkEntry
from attncheck.render.wire_shapes import ShapeEntry
from attncheck.render.wire_speeds import SpeedsEntry
from attncheck.render.wire_sub_models import AskedRunEntry, WithoutEntry
from attncheck.render.wire_watch import WatchEntry

SCHEMA = 1


class Tool(TypedDict):
    """Who wrote the report."""

    name: str
    version: str


class LibraryEntry(TypedDict):
    """A distribution that was looked for; version null when it is absent."""

    name: str
    version: str | None
    note: str


class GpuEntry(TypedDict):
    """One visible GPU. capability as "9.0"."""

    index: int
    name: str
    capability: str
    memory_bytes: int
    driver: str


class EnvironmentEntry(TypedDict):
    """What is installed. torch_cuda: "" for a build without CUDA, null when unknown; torch_hip: the same for ROCm.

    variables: those that act. inert: those that are set although nothing reads them.
    """

    python: str
    platform: str
    driver: str
    gpu_note: str
    torch_cuda: str | None
    torch_hip: str
    gpus: list[GpuEntry]
    libraries: list[LibraryEntry]
    variables: dict[str, str]
    inert: dict[str, str]
    sources: dict[str, str]


class Declared(TypedDict):
    """What a layer group declares. A value that is not known is null and its name stands in `unknown`.

    window: [left, right], inclusive token distances from the query's own diagonal, null = unbounded.
    """

    kind: str
    attends: bool
    direction: str | None
    window: list[int | None] | None
    alignment: str
    chunk: int | None
    scale: float | None
    softcap: float | None
    sinks: bool | None
    alibi: bool | None
    bias: str | None
    num_heads: int | None
    num_kv_heads: int | None
    head_dim: int | None
    head_dim_v: int | None
    head_map: str | None
    unknown: list[str]


class Group(TypedDict):
    """Layers that declare the same. probed: the layer of the tiny model that stood for them, null for none."""

    part: str
    layers: list[int]
    declared: Declared
    probed: Declared | None


class NoteEntry(TypedDict):
    """A remark on the config."""

    code: str
    text: str
    key: str


class ModelEntry(TypedDict):
    """The target."""

    id: str
    source: str
    source_detail: str
    model_type: str
    num_layers: int | None
    groups: list[Group]
    notes: list[NoteEntry]
    sources: dict[str, str]
    file: str
    lines: dict[str, int]


class ReasonEntry(TypedDict):
    """Why something cannot be used."""

    text: str
    limit: str
    actual: str
    source: str


class LaunchedEntry(TypedDict):
    """A kernel that the profiler saw; kernel: the one that was forced, "" where the library chose."""

    kernel: str
    name: str


class KernelRefusalEntry(TypedDict):
    """A kernel that was forced and refused."""

    kernel: str
    reason: str
    scenarios: list[str]


class KernelEntries(TypedDict, total=False):
    """What a GPU's profiler and forced kernels add to an implementation; left out where nothing was seen."""

    launched: list[LaunchedEntry]
    refusals: list[KernelRefusalEntry]


class ImplementationEntry(KernelEntries):
    """One implementation as a whole."""

    name: str
    default: bool
    basis: str | None
    status: str
    reasons: list[ReasonEntry]
    kernels: list[str]


class CellReach(TypedDict, total=False):
    """reach: [left, right] as read where the layers do not declare it, as `Declared.window`; left out elsewhere."""

    reach: list[int | None]


class CellEntry(CellReach):
    """One verdict of the matrix."""

    implementation: str
    kernel: str
    scenario: str
    variant: str
    part: str | None
    layers: list[int]
    verdict: str
    basis: str | None
    difference: str | None
    reason: str


class FirstDifference(TypedDict):
    """The first wrong cell, in token coordinates."""

    row: int
    query: int
    key: int


class BothMasks(TypedDict):
    """Declared and effective mask, one string of 0 and 1 a query (1 = the key is seen)."""

    declared: list[str]
    effective: list[str]


class Masks(BothMasks, total=False):
    """requested: what the framework handed to the kernel, where that was a dense mask."""

    requested: list[str]


class EvidenceEntry(TypedDict):
    """What a verdict rests on."""

    declared: str
    requested: str
    effective: str
    first_difference: FirstDifference | None
    leaked: int
    missed: int
    heads: list[int]
    figures: dict[str, float | int | str | None]
    masks: Masks | None


class RecommendationEntry(TypedDict):
    """What to do. settings: framework -> key -> value; paste: framework -> lines."""

    text: str
    settings: dict[str, dict[str, str]]
    paste: dict[str, list[str]]


class FindingEntry(TypedDict):
    """One finding."""

    code: str
    slug: str
    severity: str
    message: str
    headline: str
    implementation: str | None
    kernel: str
    part: str | None
    layers: list[int]
    scenario: str
    variant: str
    basis: str | None
    evidence: EvidenceEntry
    reproduction: str
    recommendations: list[RecommendationEntry]
    fingerprint: str
    known: bool


class RecommendedEntry(TypedDict):
    """The implementation to use."""

    implementation: str
    why: str
    text: str
    settings: dict[str, dict[str, str]]
    paste: dict[str, list[str]]


class CheckEntry(TypedDict):
    """One check of `doctor`."""

    code: str
    status: str
    reason: str


class Summary(TypedDict):
    """Counts of findings, and the exit code the command ends with."""

    errors: int
    warnings: int
    notes: int
    exit_code: int


class _Required(TypedDict):
    schema: int
    tool: Tool
    command: str
    environment: EnvironmentEntry
    findings: list[FindingEntry]
    summary: Summary


class ReportEntry(_Required, total=False):
    """The whole object. Parts that a command does not produce are left out."""

    arguments: dict[str, Any]
    model: ModelEntry
    implementations: list[ImplementationEntry]
    scenarios: dict[str, list[str]]
    matrix: list[CellEntry]
    recommended: RecommendedEntry | None
    speeds: SpeedsEntry
    conventions: list[ConventionEntry]
    abilities: list[AbilityEntry]
    inventory: InventoryEntry
    torch: TorchEntry
    incident: IncidentEntry
    shapes: list[ShapeEntry]
    bench: BenchEntry
    bench_changes: ChangesEntry
    framework: FrameworkEntry
    sub_models: list[AskedRunEntry]
    without: WithoutEntry
    watch: WatchEntry
    baseline: BaselineEntry
    missing: dict[str, str]
    checks: list[CheckEntry]
