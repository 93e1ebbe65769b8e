"""The JSON contract's types for what `doctor` adds: conventions, abilities, installed files, torch, one incident."""

from __future__ import annotations

from typing import TypedDict

Figures = dict[str, float | int | str | None]


class ConventionEntry(TypedDict):
    """What one call of one API was seen to mean. outcome: "read", "refused", "crashed", "not_run".

    left, right: inclusive token distances from the query's own diagonal, null = unbounded; where nothing was seen they
    stand in `unknown`. number: of the window, as the call hands it over, null where it hands none. pattern: the call
    with "{}" in the place of the window's number, "" without one. keys: visible keys of a query whose
    window meets no edge. alignment: "top-left", "bottom-right", null where the lengths are equal or no row can tell.
    empty_rows: queries that see no key. agrees: with `expected`.
    """

    api: str
    call: str
    question: str
    q_len: int
    kv_len: int
    outcome: str
    basis: str | None
    left: int | None
    right: int | None
    unknown: list[str]
    keys: int | None
    alignment: str | None
    empty_rows: int
    expected: str
    agrees: bool | None
    kernel: str
    detail: str
    figures: Figures
    number: int | None
    pattern: str


class AbilityEntry(TypedDict):
    """One feature of one API. agrees: with float64 attention, null where nothing was compared."""

    api: str
    feature: str
    value: str
    outcome: str
    basis: str | None
    agrees: bool | None
    kernel: str
    detail: str
    figures: Figures


class BuildEntry(TypedDict):
    """What a distribution was built for; "" and [] where its files do not say."""

    torch: str
    cuda: str
    cxx11abi: str
    python: str
    architectures: list[str]
    needed: list[str]
    source: str


class DistributionEntry(TypedDict):
    """A distribution and its version."""

    name: str
    version: str


class ClobberedEntry(TypedDict):
    """Files that two distributions both claim. intact: whose files lie there, "" when neither or unknown."""

    owners: list[DistributionEntry]
    files: int
    intact: str
    example: str


class PlaceEntry(TypedDict):
    """One copy of a distribution."""

    folder: str
    version: str


class CopiesEntry(TypedDict):
    """Several copies of one distribution on the path; the first is used."""

    name: str
    places: list[PlaceEntry]


class InventoryEntry(TypedDict):
    """Files and builds of the installed distributions."""

    builds: dict[str, BuildEntry]
    clobbered: list[ClobberedEntry]
    copies: list[CopiesEntry]


class DeviceEntry(TypedDict):
    """A GPU as torch sees it."""

    name: str
    capability: str


class FlagChange(TypedDict):
    """A global switch that importing a library changed."""

    library: str
    flag: str
    before: str
    after: str


class TorchEntry(TypedDict):
    """What an imported torch says of itself. problems: facts that it could not tell."""

    version: str
    cuda: str
    cudnn: str
    architectures: list[str]
    cuda_available: bool
    cuda_error: str
    cxx11abi: bool
    flags: dict[str, str]
    devices: list[DeviceEntry]
    changed_by_import: list[FlagChange]
    problems: list[str]


class IncidentEntry(TypedDict):
    """One window number given to two kernels, before and after the fix. Figures are largest absolute differences."""

    window: int
    shape: str
    first: str
    second: str
    before: float | None
    after: float | None
    usual_before: float | None
    usual_after: float | None
    cells: int
    distance: int | None
    first_query: int | None
    cells_after: int
    versions: dict[str, str]
    kernels: dict[str, str]
    reproduced: bool
    exact: bool | None
    heads_agree: bool | None
    keys: dict[str, int]
    words: dict[str, list[str]]
    others: dict[str, float | None]
    remarks: list[str]
