"""Environments for tests of Unsloth's resolver."""

from __future__ import annotations

from collections.abc import Mapping

from attncheck.environment import Environment, Gpu, Library


def environment(
    *,
    flash: bool = False,
    xformers: bool = False,
    capability: tuple[int, int] | None = (9, 0),
    variables: Mapping[str, str] | None = None,
) -> Environment:
    """A machine with these kernels; capability None: no GPU."""
    libraries = [Library("transformers", "5.17.0")]
    libraries += [Library("flash-attn", "2.8.3")] if flash else []
    libraries += [Library("xformers", "0.0.35")] if xformers else []
    gpus = () if capability is None else (Gpu(0, "GPU", capability, 80 << 30),)
    return Environment("3.12", "Linux", tuple(libraries), gpus, variables=variables or {}, torch_cuda="13.0")


ENVIRONMENT = environment(flash=True)
