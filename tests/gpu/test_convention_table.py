"""The convention table on a real GPU: what must show by itself, from whichever of the libraries are installed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from attncheck.checks import kernel_numbers, kernels
from attncheck.checks.machine import Machine
from attncheck.environment import read_environment
from attncheck.semantics.convention import Convention, Outcome
from attncheck.semantics.spec import Alignment
from tests.gpu.conftest import Table

pytestmark = pytest.mark.gpu


def ran(table: Table) -> Table:
    """The test is skipped where the API does not run."""
    if all(row.outcome is Outcome.NOT_RUN for row in table.rows):
        pytest.skip(table.rows[0].detail)
    return table


def causal_window(rows: tuple[Convention, ...]) -> set[int | None]:
    """Keys that a causal window of 8 means, where it is given as a number."""
    asked = [row for row in rows if row.question == "window" and row.q_len == row.kv_len and "<" not in row.call]
    return {row.keys for row in asked if row.outcome is Outcome.READ and row.right == 0 and row.agrees is not False}


@pytest.mark.parametrize(("api", "keys"), [("flash-attn-2", 9), ("flash-attn-4", 9), ("cudnn-graph", 8)])
def test_a_window_of_8(api: str, keys: int, tables: Mapping[str, Table]) -> None:
    rows = ran(tables[api]).rows
    assert keys in causal_window(rows)
    assert all(row.kernel for row in rows if row.outcome is Outcome.READ)


def test_flash_attn_4_with_minus_one_is_all_zero(tables: Mapping[str, Table]) -> None:
    rows = ran(tables["flash-attn-4"]).rows
    asked = [row for row in rows if "(-1, 0)" in row.call and row.q_len == row.kv_len]
    assert {row.call for row in asked} == {"window_size=(-1, 0)", "causal=True, window_size=(-1, 0)"}
    assert {row.detail for row in asked} == {"all 64 output rows are exactly 0"}
    found = list(kernels.broken_contracts(Machine(read_environment(), conventions=rows)))
    assert any("(-1, 0)" in finding.message for finding in found)


def test_alignments_and_rows_without_keys(tables: Mapping[str, Table]) -> None:
    math, cudnn = ran(tables["sdpa-math"]), ran(tables["sdpa-cudnn"])
    for table in (math, cudnn):
        short = next(row for row in table.rows if row.call == "is_causal=True" and row.q_len < row.kv_len)
        assert short.alignment is Alignment.TOP_LEFT
    abilities = (math.abilities["empty-rows"], cudnn.abilities["empty-rows"])
    assert abilities[0].figures["bool"] == "0"
    assert abilities[1].figures["bool"] != "0"
    machine = Machine(read_environment(), conventions=(), abilities=abilities)
    assert [finding.slug for finding in kernel_numbers.empty_rows(machine)] == ["empty-rows-differ"]


def test_flash_attn_2_is_bottom_right(tables: Mapping[str, Table]) -> None:
    table = ran(tables["flash-attn-2"])
    unequal = [row for row in table.rows if row.q_len != row.kv_len and row.right == 0]
    assert {row.alignment for row in unequal} == {Alignment.BOTTOM_RIGHT}
    assert (
        "float32, float64 refused: FlashAttention only support fp16 and bf16 data type"
        in table.abilities["dtype"].detail
    )
    assert all(row.agrees is not False for row in table.rows)
