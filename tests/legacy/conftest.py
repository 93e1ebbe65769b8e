"""The throw-away environments of old releases, kept in pytest's cache between runs where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.legacy.environments import CACHE_VARIABLE


@pytest.fixture(scope="session")
def releases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that old releases are installed into."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    cache = getattr(request.config, "cache", None)
    return Path(cache.mkdir("legacy")) if cache is not None else tmp_path_factory.getbasetemp().parent / "legacy"
