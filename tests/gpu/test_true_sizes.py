"""Real kernels at true sizes: right where they are usable, refused in words where they are not."""

from __future__ import annotations

import pytest

from attncheck.checks.shape_results import wrong
from attncheck.environment import read_environment
from attncheck.probe import shapes
from attncheck.probe.shapes import Plan, ShapeCase
from attncheck.semantics.convention import Outcome
from attncheck.semantics.shape import Shape, ShapeReading
from attncheck.semantics.spec import Part, Window

MISTRAL = Shape(32, 8, 128, 128, Window(4095, 0))
WIDE = Shape(8, 4, 512, 512)


@pytest.fixture(scope="module")
def readings() -> tuple[ShapeReading, ...]:
    names = ("sdpa", "flash_attention_2")
    cases = [ShapeCase(name, Part.DECODER, (0,), shape) for shape in (MISTRAL, WIDE) for name in names]
    return shapes.read(cases, read_environment(), Plan("cuda"))


@pytest.mark.gpu
def test_every_kernel_that_runs_is_right_at_the_sizes_of_mistral(readings: tuple[ShapeReading, ...]) -> None:
    mine = [reading for reading in readings if reading.shape == MISTRAL]
    read = [reading for reading in mine if reading.outcome is Outcome.READ]
    assert {"sdpa-math", "sdpa-efficient"} <= {reading.api for reading in read}
    for reading in read:
        assert [fault.headline for fault in wrong(reading, training=True)] == []
        assert reading.launched
        assert reading.peak_bytes
    assert any(reading.picked for reading in read if reading.implementation == "sdpa")


@pytest.mark.gpu
def test_head_dim_512_is_refused_by_the_flash_kernels(readings: tuple[ShapeReading, ...]) -> None:
    flash = [reading for reading in readings if reading.shape == WIDE and "flash" in reading.api]
    assert flash
    assert all(reading.outcome is Outcome.REFUSED and reading.reasons for reading in flash)
    math = [reading for reading in readings if reading.shape == WIDE and reading.api == "sdpa-math"]
    assert all(reading.outcome is Outcome.READ for reading in math)
