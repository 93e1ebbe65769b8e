"""Rules about single attention calls of a running script, judged by what they ask for and what they then let be seen.

Only what is wrong whatever the script is for becomes a finding; all else is shown as facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attncheck.checks import call_words as words
from attncheck.checks.interface import RuleGroup
from attncheck.findings import Rule, Severity
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import PAD
from attncheck.semantics.observation import HeadMask
from attncheck.semantics.spec import Part
from attncheck.semantics.watched import WatchedCall

#: Cells (queries x keys) up to which the mask as it should be is written out: two megabytes of bits.
_WRITTEN_OUT = 1 << 24

_MEASURED = (
    "The first calls of each call site are repeated with all logits equal and marked values, so their output shows exactly "
    "which keys each query sees; the mask argument itself is read as well."
)

RULES = (
    Rule(
        "ATC121",
        "mask-inverted",
        "The mask hides what it should show",
        "Every query sees all keys after itself, none before it and not itself: a causal mask the wrong way round. With itself, as torch.triu(ones) gives it, it is a warning, outside of models whose config says what they declare.",
        "The model learns from the future only, and the last query sees nothing at all. The loss falls nevertheless.",
        _MEASURED,
        "In scaled_dot_product_attention True means that a query may see a key; in nn.MultiheadAttention it means that it may not. Pass ~mask; for torch.triu(ones) its transpose, mask.mT.",
        ("LLMs-from-scratch#1061", "pytorch#170400"),
    ),
    Rule(
        "ATC122",
        "mask-hides-nothing",
        "A mask was passed, and it hides nothing",
        "An additive mask holds only 0 and 1: it is a yes-or-no mask turned into numbers, and adding 1 to a logit hides no key.",
        "Padding and future tokens are seen by every query, and nothing warns: the call is valid.",
        _MEASURED,
        "Pass the mask as torch.bool (True: may be seen), or as numbers with 0 for what may be seen and -inf for what may not.",
        ("pytorch#103963", "pytorch#163026"),
    ),
    Rule(
        "ATC123",
        "nothing-visible",
        "A whole batch row sees no key",
        "The mask of a batch row hides every key from every one of its queries. A row that is all padding is a warning only.",
        "The output of the row is zero, NaN or the mean of all values, depending on the kernel: it holds nothing of the input.",
        _MEASURED,
        "Look at how the mask is made: it may be inverted (True means that a key may be seen), or of another batch.",
        ("pytorch#103963", "pytorch#103749"),
    ),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with one call. slug: of its rule. title: what is wrong. seen: the mask that shows it.

    right: the mask as it should be, None where nothing says. expected, effective: in words. fix: what to do, with
    something to paste. severity: WARNING where a script may mean it so. arguments: that show it in a few lines, of
    torch's function; "" for those that are usual for its rule.
    """

    slug: str
    title: str
    expected: str = ""
    effective: str = ""
    seen: HeadMask | None = None
    right: KeepMask | None = None
    fix: str = ""
    paste: str = ""
    severity: Severity = Severity.ERROR
    arguments: str = ""


def faults(call: WatchedCall) -> Iterator[Fault]:
    """What is wrong with a call by itself, whatever a config declares."""
    if call.nan_rows is not None:
        row, query, count = call.nan_rows
        yield Fault(
            "nan-rows",
            "The output holds NaN or Inf although query, key and value are finite",
            "finite rows",
            f"{count} row{'' if count == 1 else 's'} with NaN or Inf, the first is query {query} of batch row {row}",
            fix="Leave every query at least one key (its own): a row in which all are hidden has no softmax.",
        )
    yield from _of_the_mask(call)
    yield from _of_the_kernel(call)
    yield from _misaligned(call)


def _of_the_mask(call: WatchedCall) -> Iterator[Fault]:
    """Masks that nobody can mean."""
    if call.mask_values == (0.0, 1.0) and call.mask_hides is False:
        yield Fault(
            "mask-hides-nothing",
            "The mask holds 0 and 1 as numbers, which are added to the logits and hide nothing",
            "some keys hidden: a mask was passed",
            "every key that is hidden by nothing else",
            fix="Pass it as torch.bool, True where a key may be seen.",
            paste="attn_mask=mask.bool()",
        )
    blind = [mask.row for mask in call.seen if not any(mask.keep.rows)]
    blind = [row for row in blind if all(not any(mask.keep.rows) for mask in call.seen if mask.row == row)]
    if blind:
        yield Fault(
            "nothing-visible",
            f"No query of batch row {blind[0]} sees any key",
            "keys to attend to",
            "none",
            next(mask for mask in call.seen if mask.row == blind[0]),
            fix="Look at how the mask is made; where it says True for what is to be hidden, pass ~mask.",
            paste="attn_mask=~mask",
            severity=Severity.WARNING if all(_is_filler(call, row) for row in blind) else Severity.ERROR,
        )
    for mask in call.seen:
        if call.mask_kind == "bool" and (right := inverted(mask)) is not None:
            yield Fault(
                "mask-inverted",
                "Every query sees the keys after itself and none up to itself: the mask is the wrong way round",
                "all earlier keys and itself",
                "only later keys",
                mask,
                right,
                "In scaled_dot_product_attention True means that a key may be seen.",
                "attn_mask=~mask",
            )
            return
        # A layer of a known model is judged by its config, which also says whether it looks ahead.
        if call.part is None and call.mask_kind != "none" and (right := transposed(mask)) is not None:
            yield Fault(
                "mask-inverted",
                "Every query sees itself and the keys after it, none before: a causal mask that was transposed",
                "itself and all earlier keys",
                "itself and all later keys, 0 back",
                mask,
                right,
                "torch.triu keeps what comes later, torch.tril what came before. It is right where the model is meant "
                "to read backwards.",
                "attn_mask=mask.mT",
                Severity.WARNING,
                "attn_mask=torch.ones(queries, keys).triu().bool()",
            )
            return


def _is_filler(call: WatchedCall, row: int) -> bool:
    """Whether a batch row that sees nothing holds nothing but padding, such as rows that fill up a batch.

    By what the model was fed; where that is not known, by the mask argument: it leaves this row no key and others some.
    """
    tokens = call.tokens
    layout = tokens.encoder if call.part in (Part.ENCODER, Part.CROSS) else tokens.decoder
    layout = layout or (None if call.part is Part.CROSS else tokens.decoder or tokens.encoder)
    if tokens.known and layout is not None and row in call.rows and call.rows.index(row) < len(layout.rows):
        return all(document == PAD for document in layout.rows[call.rows.index(row)].document)
    asked = {mask.row: False for mask in call.asked}
    for mask in call.asked:
        asked[mask.row] |= any(mask.keep.rows)
    return asked.get(row) is False and any(asked.values())


def inverted(mask: HeadMask) -> KeepMask | None:
    """The causal mask of which this is the opposite, None for any other mask.

    Keys that all queries see (padding, turned round too) may come on top, as long as they are fewer than half.
    """
    keep = mask.keep
    size = keep.kv_len
    if mask.coarse or mask.queries or keep.q_len != size or size < 3:
        return None
    everywhere = (1 << size) - 1
    for row in keep.rows:
        everywhere &= row
    every = (1 << size) - 1
    if everywhere.bit_count() * 2 >= size:
        return None
    later = [every & ~((2 << query) - 1) for query in range(size)]
    if any(row != (ahead | everywhere) for row, ahead in zip(keep.rows, later)):
        return None
    return KeepMask(tuple(every & ~row for row in keep.rows), size)


def transposed(mask: HeadMask) -> KeepMask | None:
    """The causal mask of which this is the transpose, None for any other mask.

    Keys that no query sees (padding) may be missing from both, as long as they are fewer than half.
    """
    keep = mask.keep
    size = keep.kv_len
    if mask.coarse or mask.queries or keep.q_len != size or size < 3:
        return None
    seen = 0
    for row in keep.rows:
        seen |= row
    if seen.bit_count() * 2 <= size or seen.bit_count() < 3:
        return None
    if any(row != seen >> query << query for query, row in enumerate(keep.rows)):
        return None
    return KeepMask(tuple(seen & (2 << query) - 1 for query in range(size)), size)


def _of_the_kernel(call: WatchedCall) -> Iterator[Fault]:
    """Cells that the arguments hide by the function's documentation, and that are seen all the same, or the other way."""
    for mask in call.seen:
        asked = next((asked for asked in call.asked if asked.row == mask.row and _shares(asked, mask)), None)
        if asked is None or asked.queries != mask.queries or asked.keep.kv_len != mask.keep.kv_len:
            continue
        # A query to which nothing is left (padding) has no softmax: kernels give it zeros, or the mean of all values.
        leaked = any(want and row & ~want for row, want in zip(mask.keep.rows, asked.keep.rows))
        missed = any(want & ~row for row, want in zip(mask.keep.rows, asked.keep.rows))
        if leaked:
            slug = (
                "mask-dropped"
                if call.mask_kind != "none"
                else "causal-ignored"
                if not call.window
                else "window-ignored"
            )
        elif missed:
            slug = "keys-missing"
        else:
            continue
        verb = "lets keys be seen that its arguments hide" if leaked else "hides keys that its arguments show"
        yield Fault(
            slug,
            f"{call.function} {verb}: the kernel lost it",
            f"what is asked for: {words.arguments(call)}",
            words.reach(mask),
            mask,
            asked.keep,
        )
        return


def _shares(asked: HeadMask, mask: HeadMask) -> bool:
    return not asked.heads or not mask.heads or bool(set(asked.heads) & set(mask.heads))


def _misaligned(call: WatchedCall) -> Iterator[Fault]:
    """is_causal with more keys than queries, all of which hold something: torch counts the diagonal from the first query.

    A warning: keys behind the queries may also be what an earlier sequence left in a preallocated cache.
    """
    if call.implementation or not call.hidden_keys_used or call.mask_kind != "none":
        return
    ahead = call.kv_len - call.q_len
    wrong = next((mask for mask in call.seen if not mask.coarse and not _ends_at_the_last_key(mask, ahead)), None)
    if call.seen and wrong is None and not any(mask.coarse for mask in call.seen):
        return  # this kernel counts from the last query after all
    right = None
    if wrong is not None and call.q_len * call.kv_len <= _WRITTEN_OUT:
        right = KeepMask(tuple((2 << query + ahead) - 1 for query in range(call.q_len)), call.kv_len)
        right = right.only_rows(wrong.queries) if wrong.queries else right
    yield Fault(
        "causal-misaligned",
        f"is_causal=True with {call.q_len} queries on {call.kv_len} keys: the last {ahead} keys are seen by no query",
        f"query 0 sees {ahead + 1} keys: the last query stands at the last key",
        "query 0 sees 1 key: the first query stands at the first key (top-left)",
        wrong,
        right,
        "With a cache, pass a mask that ends at the last key; for one new token, no mask and no is_causal. It is right "
        "where the queries are the first tokens, and the keys behind them are left over in a preallocated cache.",
        f"attn_mask=torch.nn.attention.bias.causal_lower_right({call.q_len}, {call.kv_len})",
        Severity.WARNING,
    )


def _ends_at_the_last_key(mask: HeadMask, ahead: int) -> bool:
    """Whether each query that was read sees all keys up to its own, the last query standing at the last key."""
    return all(mask.keep.rows[query] == (2 << query + ahead) - 1 for query in mask.queries or range(mask.keep.q_len))


GROUP = RuleGroup("calls", RULES, order=15)
