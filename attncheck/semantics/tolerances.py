"""How far a measured number may lie from the declared one before it is wrong, per dtype. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: How far a raised reading lifts every scaled logit. Softmax cannot see a constant; tanh can: a cap of 50 flattens the
#: slope by 10 % here, far above every dtype's noise, and logits near 16 still leave fp16 and bf16 enough digits.
RAISED = 16.0


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Largest harmless deviations of one dtype.

    scale: relative, of the fitted factor on q.k. log_residual: absolute, of log P against the fit (linearity, bias,
    kv head map). row_sum: absolute, of a row of P against 1; also of a fitted sink logit relative to its spread.
    softcap_ratio: absolute, of the slope under a raised base logit relative to the slope without it (1 = no cap).
    gradient: relative to the largest reference entry of dq, dk or dv.

    Masks have no tolerance: a forbidden key gets exactly 0 in every dtype.
    """

    scale: float
    log_residual: float
    row_sum: float
    softcap_ratio: float
    gradient: float


#: Each bound lies between the largest value seen on healthy models (scale 1e-7 / 3.4e-3 / 1.5e-4, log residual
#: 6.9e-7 / 4.9e-2 / 2.1e-3, row sum 1.6e-7 / 2.9e-3 / 3.7e-4, gradient 2.5e-7 / 7.2e-3 / 1.1e-3 in fp32 / bf16 /
#: fp16) and the smallest planted fault that matters (a scale off by 3 %, a sink or cap left out).
TOLERANCES: Mapping[str, Tolerances] = {
    "float64": Tolerances(scale=1e-4, log_residual=1e-3, row_sum=1e-4, softcap_ratio=0.01, gradient=1e-4),
    "float32": Tolerances(scale=1e-4, log_residual=1e-3, row_sum=1e-4, softcap_ratio=0.01, gradient=1e-4),
    "float16": Tolerances(scale=2e-3, log_residual=1e-2, row_sum=3e-3, softcap_ratio=0.02, gradient=1e-2),
    "bfloat16": Tolerances(scale=1e-2, log_residual=6e-2, row_sum=2e-2, softcap_ratio=0.03, gradient=3e-2),
}


def tolerances(dtype: str) -> Tolerances:
    """The bounds of a dtype by torch's short name ("float32"); one not listed (float8, ...) gets the widest."""
    return TOLERANCES.get(dtype, TOLERANCES["bfloat16"])
