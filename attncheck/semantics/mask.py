"""From cache slots to tokens: where a mask that was seen lies."""

from __future__ import annotations

from attncheck.semantics.keepmask import KeepMask


def in_token_coordinates(observed: KeepMask, tokens: int) -> tuple[KeepMask, KeepMask]:
    """Move an observed mask from cache slots to tokens.

    A cache that returns fewer slots than there are tokens holds the newest ones in order; one that returns more
    (static caches) holds token j in slot j and nothing behind. Returns the mask over tokens, and the mask over the
    slots behind the last token, which must be empty.
    """
    if observed.kv_len >= tokens:
        cut = (1 << tokens) - 1
        return (
            KeepMask(tuple(r & cut for r in observed.rows), tokens),
            KeepMask(tuple(r >> tokens for r in observed.rows), observed.kv_len - tokens),
        )
    shift = tokens - observed.kv_len
    return KeepMask(tuple(r << shift for r in observed.rows), tokens), KeepMask((0,) * observed.q_len, 0)
