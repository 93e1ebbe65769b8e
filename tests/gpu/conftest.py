"""What the tests on a GPU share: the convention table is read once a session, of the APIs that the tests ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from attncheck.environment import read_environment
from attncheck.probe import conventions
from attncheck.probe.jobs import Jobs
from attncheck.semantics.convention import Ability, Convention

#: All others would cost minutes: `attncheck doctor` reads them too, and tests/gpu/recorded has what came of it.
APIS = ("sdpa-math", "sdpa-cudnn", "flash-attn-2", "flash-attn-4", "cudnn-graph")


@dataclass(frozen=True, slots=True)
class Table:
    """One API as it was read. abilities: by feature."""

    rows: tuple[Convention, ...]
    abilities: Mapping[str, Ability]


@pytest.fixture(scope="session")
def tables() -> Mapping[str, Table]:
    """API -> its table; all rows are NOT_RUN where it is not installed."""
    with Jobs(300.0) as jobs:
        rows, abilities = conventions.read(jobs, read_environment(), "cuda", only=APIS)
    return {
        api: Table(
            tuple(row for row in rows if row.api == api),
            {ability.feature: ability for ability in abilities if ability.api == api},
        )
        for api in APIS
    }
