"""The throw-away environments of old releases, kept in pytest's cache between runs where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from environments import RELEASES, installed


@pytest.fixture(scope="session")
def release(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, ...]]:
    """Folders of an old transformers version, by version."""
    cache = getattr(request.config, "cache", None)
    root = Path(cache.mkdir("legacy")) if cache is not None else tmp_path_factory.getbasetemp().parent / "legacy"
    return lambda version: installed(RELEASES[version], root)
