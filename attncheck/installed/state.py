"""What an imported torch says of itself, as plain data; read in a throw-away process by `probe.torch_state`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TorchState:
    """version: torch.__version__. cuda: torch.version.cuda, "" without. cudnn: version as text ("9.19.0"), "" without.

    architectures: compiled targets ("sm_90", "compute_120"). cuda_available: torch could start CUDA; cuda_error: why
    not. cxx11abi: as torch reports it. flags: global switches that change attention, name -> value
    ("torch.backends.cuda.flash_sdp_enabled()" -> "True"). devices: GPU name -> capability as torch sees it.
    changed_by_import: flags that importing a library changed: (library, flag, before, after). problems: facts that
    torch could not tell ("cuDNN: RuntimeError: ...").
    """

    version: str
    cuda: str = ""
    cudnn: str = ""
    architectures: tuple[str, ...] = ()
    cuda_available: bool = False
    cuda_error: str = ""
    cxx11abi: bool = True
    flags: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[tuple[str, str], ...] = ()
    changed_by_import: tuple[tuple[str, str, str, str], ...] = ()
    problems: tuple[str, ...] = ()
