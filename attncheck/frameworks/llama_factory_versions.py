"""What each LLaMA-Factory release makes of its attention settings: a table, newest first, read in the packages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from packaging.version import Version

from attncheck.frameworks.flash_kernels import parsed

#: The newest release whose source was read; it is assumed where none is installed and none was named.
NEWEST = "0.9.5"


class Packed(str, Enum):
    """How `neat_packing` reaches an implementation whose name is "flash_attention_2"; any other gets a 4D mask.

    NONE: the key does not exist. PATCHED: an index mask, and a patch of each model type's own file. INDEX: an index
    mask, and one patch of transformers' `_get_unpad_data`. POSITIONS: no mask, one unpadded row, packed position_ids.
    """

    NONE = "none"
    PATCHED = "patched"
    INDEX = "index"
    POSITIONS = "positions"


@dataclass(frozen=True, slots=True)
class Release:
    """One row: what holds from this version on.

    since: first version. values: of `flash_attn`, transformers' name for each ("" for what the resolver leaves alone);
    what the resolver has no branch for is not among them.
    gemma2: where soft-capping is looked after: "" nowhere, "training" or "always". gemma2_flash: oldest flash-attn it
    accepts there, "" for any. kernels: model type -> hub kernel that is loaded whatever was asked for. no_sdpa: model
    types for which auto and sdpa become eager. into_parts: model types whose sub-configs are written, and whether the
    whole config is written too. packed: see `Packed`. packed_types: model types that PATCHED knows. shift: transformers
    that `shift_attn` accepts for llama. transformers: what the package requires. arguments: whether
    `key=value` may stand beside a file (`read_args`); before, one file or `--key value` flags were taken, never both.
    """

    since: str
    values: tuple[tuple[str, str], ...]
    gemma2: str = ""
    gemma2_flash: str = ""
    kernels: tuple[tuple[str, str], ...] = ()
    no_sdpa: tuple[str, ...] = ()
    into_parts: tuple[tuple[str, bool], ...] = ()
    packed: Packed = Packed.NONE
    packed_types: tuple[str, ...] = ()
    shift: str = ""
    transformers: str = ""
    arguments: bool = True

    def implementation(self, value: str) -> str | None:
        """The name in transformers for a value of `flash_attn`; "" for auto, None where the resolver raises."""
        return dict(self.values).get(value)


_OFF = (("auto", ""), ("off", "eager"), ("sdpa", "sdpa"), ("fa2", "flash_attention_2"))
#: Model types that the collator refuses to pack neatly under flash_attention_2 (POSITIONS).
REFUSED = ("gemma4", "gpt_oss")
_DISABLED = (("auto", ""), ("disabled", "eager"), ("sdpa", "sdpa"), ("fa2", "flash_attention_2"))
#: SUPPORTED_CLASS_FOR_BLOCK_DIAG_ATTN
_PATCHED_TYPES = (
    "cohere", "falcon", "gemma", "gemma2", "llama", "mistral", "phi", "phi3", "qwen2", "starcoder2",
)  # fmt: skip
_GPT_OSS = (("gpt_oss", "kernels-community/vllm-flash-attn3"),)

#: Sources: model/model_utils/{attention,packing,longlora}.py, data/collator.py, hparams/*.py and the metadata of 0.7.1,
#: 0.8.2, 0.8.3 and 0.9.0 to 0.9.5.
RELEASES = (
    Release(
        "0.9.5",
        _DISABLED,
        gemma2="always",
        kernels=_GPT_OSS,
        no_sdpa=("youtu", "youtu_vl"),
        into_parts=(("kimi_vl", False), ("youtu_vl", True)),
        packed=Packed.POSITIONS,
        shift=">=4.45.0,<4.48.0",
        transformers="!=4.52.0,!=4.57.0,<=5.6.0,>=4.55.0",
    ),
    Release(
        "0.9.4",
        _DISABLED,
        gemma2="always",
        kernels=_GPT_OSS,
        into_parts=(("kimi_vl", False),),
        packed=Packed.INDEX,
        shift=">=4.45.0,<4.48.0",
        transformers="!=4.52.0,!=4.57.0,<=4.57.1,>=4.51.0",
    ),
    Release(
        "0.9.3",
        _DISABLED,
        gemma2="always",
        into_parts=(("kimi_vl", False),),
        packed=Packed.INDEX,
        shift=">=4.45.0,<4.48.0",
        transformers="!=4.46.*,!=4.47.*,!=4.48.0,!=4.52.0,<=4.52.4,>=4.45.0",
    ),
    Release(
        "0.9.2",
        _DISABLED,
        gemma2="training",
        gemma2_flash="2.6.3",
        packed=Packed.INDEX,
        shift=">=4.41.2,<4.48.0",
        transformers="!=4.46.*,!=4.47.*,!=4.48.0,<=4.49.0,>=4.41.2",
        arguments=False,
    ),
    Release(
        "0.9.1",
        _DISABLED,
        gemma2="training",
        gemma2_flash="2.6.3",
        packed=Packed.PATCHED,
        packed_types=_PATCHED_TYPES,
        shift=">=4.41.2,<=4.46.1",
        transformers="<=4.46.1,>=4.41.2",
        arguments=False,
    ),
    Release(
        "0.9.0",
        _DISABLED,
        gemma2="training",
        gemma2_flash="2.6.3",
        packed=Packed.PATCHED,
        packed_types=_PATCHED_TYPES,
        shift=">=4.41.2,<=4.45.0",
        transformers="<=4.45.0,>=4.41.2",
        arguments=False,
    ),
    Release(
        "0.8.3",
        _DISABLED,
        gemma2="training",
        gemma2_flash="2.6.0",
        packed=Packed.PATCHED,
        packed_types=_PATCHED_TYPES,
        shift=">=4.41.2,<=4.42.4",
        transformers=">=4.41.2",
        arguments=False,
    ),
    Release("0.8.2", _OFF, transformers=">=4.41.2", shift="==4.41.2", arguments=False),
    Release("0.7.1", _OFF, transformers=">=4.37.2", shift="==4.40.2", arguments=False),
)


def release(version: str) -> Release:
    """The row of a version; one older than all rows gets the oldest."""
    wanted = parsed(version)
    return next((row for row in RELEASES if wanted >= Version(row.since)), RELEASES[-1])
