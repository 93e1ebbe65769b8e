"""What the device itself does in this run: the rate of a large matrix product, the bandwidth of a copy, its clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from attncheck.probe import telemetry, timing
from attncheck.probe.kernels.interface import KernelJob
from attncheck.semantics.timing import DeviceRates

#: Rows and columns of the product, and bytes of the copy: large enough to fill an H100; less for a CPU.
SIZE, SIZE_ON_CPU = 8192, 1024
COPIED, COPIED_ON_CPU = 1 << 30, 1 << 26
#: Products in flight while the clock is read: about 140 ms on an H100 in half precision and in float32.
_IN_FLIGHT, _IN_FLIGHT_FLOAT32 = 100, 6


def run(step: str, arguments: Mapping[str, Any]) -> tuple[DeviceRates, float]:
    """Step "rates": all of them; "clock": the clock and throttling alone, under load. With the seconds spent.

    arguments: device, dtype. clock is (MHz now, None). What does not fit into memory is left None.
    """
    device = str(arguments.get("device", "cpu"))
    dtype = str(arguments.get("dtype", "float32"))
    started = time.perf_counter()
    if device == "cpu":
        torch.set_num_threads(timing.cpu_threads())
        name, sample = f"CPU, {timing.cpu_threads()} threads", telemetry.Sample()
    else:
        name, sample = torch.cuda.get_device_name(), _under_load(dtype)
    matrix, shape, copied = None, "", None
    if step == "rates":
        matrix, shape = matrix_rate(device, dtype)
        copied = copy_rate(device)
    rates = DeviceRates(
        name,
        matrix,
        shape,
        copied,
        clock=(sample.clock, None),
        power_limit=sample.power_limit,
        throttled=sample.throttled,
    )
    if device == "cuda":
        torch.cuda.empty_cache()
    return rates, time.perf_counter() - started


def matrix_rate(device: str, dtype: str) -> tuple[float, str]:
    """(FLOP/s, the shape in words) of a square matrix product of random numbers: zeros would draw less power."""
    size = SIZE if device == "cuda" else SIZE_ON_CPU
    first, second = (torch.randn((size, size), device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    found = timing.measure(lambda: torch.matmul(first, second), device)
    return 2.0 * size**3 / found.median, f"{size} x {size} x {size}, {dtype}"


def copy_rate(device: str) -> float:
    """Bytes read plus written a second by a copy within the device's memory."""
    count = COPIED if device == "cuda" else COPIED_ON_CPU
    source = torch.randint(0, 127, (count,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    found = timing.measure(lambda: target.copy_(source), device)
    return 2.0 * count / found.median


def _under_load(dtype: str) -> telemetry.Sample:
    """A look at the GPU while it multiplies: at rest it clocks down."""
    product = torch.randn((SIZE, SIZE), device="cuda", dtype=getattr(torch, dtype))
    torch.cuda.synchronize()
    for _ in range(_IN_FLIGHT if dtype != "float32" else _IN_FLIGHT_FLOAT32):
        torch.matmul(product, product)
    sample = telemetry.sample(_uuid())
    torch.cuda.synchronize()
    return sample


def _uuid() -> str:
    found = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    return f"GPU-{found}" if found is not None else ""


JOB = KernelJob("bench-rates", run)
