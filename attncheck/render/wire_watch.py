"""The JSON contract's types for what a watch saw of a running script."""

from __future__ import annotations

from typing import TypedDict


class SiteEntry(TypedDict):
    """Calls that are alike, over layers, steps and ranks.

    kernel: below the implementation, "" where none is known. launched: name of the CUDA kernel that a profiler saw.
    sees, declared: masks in words. verdict: as in the matrix. difference: slug of a mismatch. calls: those read.
    """

    function: str
    where: str
    implementation: str
    kernel: str
    launched: str
    module: str
    part: str | None
    layers: list[int]
    phase: str
    shape: str
    dtype: str
    device: str
    mask_kind: str
    is_causal: bool | None
    window: str
    sees: str
    declared: str
    verdict: str
    difference: str | None
    basis: str | None
    reason: str
    calls: int
    ranks: list[int]


class WatchEntry(TypedDict):
    """A script as a watch saw it. status: its exit code, 128 + n for signal n, null while it runs.

    first: how many calls of each site and kind were read. compiled: graphs inside which no call is seen.
    """

    script: str
    status: int | None
    ended_by: str
    first: int
    processes: int
    ranks: list[int]
    compiled: int
    failures: list[str]
    versions: dict[str, str]
    sites: list[SiteEntry]
