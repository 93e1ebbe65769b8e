"""Rules about which keys a query sees: window, chunk, causality, padding, and the mask the caller passed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attncheck.checks.evidence import of_difference
from attncheck.checks.interface import Inputs, Issue, RuleGroup, View
from attncheck.findings import Rule
from attncheck.semantics.difference import Difference

_MEASURED = (
    "The live attention call is repeated with identity matrices as values, so its output is the probability matrix; a key "
    "is visible where the probability is not exactly zero. The mask is compared cell by cell with the declared one, for "
    "every query that is a real token."
)

RULES = (
    Rule(
        "ATC101",
        "window-ignored",
        "The sliding window is not applied",
        "Queries see keys further away than the declared sliding window.",
        "The model was trained never to look that far. Beyond the window length its outputs drift from the reference, memory and time grow with the square of the length, and two implementations of one checkpoint disagree.",
        _MEASURED,
        "Use an implementation that applies the window, or keep sequences no longer than the window.",
        ("transformers#28980", "transformers#35924", "unsloth#8253"),
    ),
    Rule(
        "ATC102",
        "window-off-by-one",
        "The sliding window is off by one token",
        "A query sees one key more or one key less than the declared window, on one side or on both.",
        "APIs disagree whether a window of W includes the query itself. The difference is small, but it makes implementations disagree from the first token past the window on and breaks bit-exact comparisons and cached prefixes.",
        _MEASURED,
        "Upgrade (the transformers flash path passed one key too many up to 4.55.4), or use an implementation that is right here.",
        ("transformers#39408", "transformers#40163", "TransformerEngine#1197", "flash-attention#1133"),
    ),
    Rule(
        "ATC103",
        "window-size-wrong",
        "The sliding window has another size than declared",
        "There is a window, but its size is neither the declared one nor one token off.",
        "Either keys the model relies on are cut away or keys it never saw in training are visible.",
        _MEASURED,
        "Compare the config key named in the report with the argument handed to the kernel; use an implementation that is right here.",
        ("transformers#40700",),
    ),
    Rule(
        "ATC104",
        "window-unexpected",
        "A window is applied that nothing declares",
        "Old keys are hidden from queries of a layer that declares no window.",
        "Long prompts silently lose their beginning.",
        _MEASURED,
        "Set the window key of the config to null if the library reads it although it is switched off, or upgrade.",
        ("transformers 4.49-4.51 with use_sliding_window=false",),
    ),
    Rule(
        "ATC105",
        "causal-ignored",
        "Queries see keys that come after them",
        "A layer that declares causal attention lets tokens attend to the future.",
        "Training leaks the answer into the input: the loss looks wonderful and the model is useless. In generation a prompt is encoded differently from how it was trained.",
        _MEASURED,
        "Do not use this implementation for the model.",
        ("transformers#33676", "transformers#39554", "transformers#41966"),
    ),
    Rule(
        "ATC106",
        "causal-unexpected",
        "Later keys are hidden although the layer declares bidirectional attention",
        "An encoder layer, or a decoder switched to bidirectional attention, is causal when it runs.",
        "Embedding models and encoders lose half of their context without any error.",
        _MEASURED,
        "Use an implementation that reads the switch, and check the result with this command: it can depend on whether a padding mask is passed.",
        ("llm2vec#79", "CTranslate2#2083"),
    ),
    Rule(
        "ATC107",
        "causal-misaligned",
        "The causal diagonal lies in the wrong place",
        "With fewer queries than keys (decoding, chunked prefill) the diagonal starts at the first key instead of ending at the last one, or it is moved by some tokens. In a watched script it is a warning: a prompt that fills an empty cache may mean it so.",
        "New tokens lose most of the context they should see, or see a token too many.",
        _MEASURED,
        "torch's is_causal=True aligns top-left; pass a mask or causal_lower_right when there is a cache.",
        ("pytorch#108108", "flash-attention#517"),
    ),
    Rule(
        "ATC108",
        "padding-ignored",
        "Real tokens attend to padding",
        "Padding keys are visible to real tokens of a padded batch.",
        "Outputs depend on how much padding the batch happens to have, so results change with batch composition.",
        _MEASURED,
        "Use an implementation that applies the attention_mask, or run without padding (batch size 1, or sequences of one length).",
        ("maxtext#878", "pytorch#122753"),
    ),
    Rule(
        "ATC109",
        "mask-dropped",
        "The mask passed by the caller is not applied",
        "A 4D attention_mask given to the model has no effect, or the opposite one.",
        "Custom masks (packing, tree decoding, prefix attention) fail silently.",
        _MEASURED,
        "Use eager or sdpa for custom masks; flash-attention takes a 2D padding mask only.",
        ("flash-attention#1857",),
    ),
    Rule(
        "ATC110",
        "prefix-dropped",
        "The bidirectional prefix of the caller's mask is not applied",
        "Keys that the caller's mask lets a query see ahead of itself are hidden: causality is applied on top.",
        "Prefix and image tokens that should see each other do not.",
        _MEASURED,
        "Use eager or sdpa for this model, or pass the mask in the other form (additive or boolean).",
        ("flash-attention#2631",),
    ),
    Rule(
        "ATC111",
        "chunk-wrong",
        "Chunks of the attention are not where they are declared",
        "Chunked attention is missing, has another size, or counts its chunks from the wrong token.",
        "Chunked layers (llama4) then see context they were not trained on, or lose context in padded, packed or cached runs.",
        _MEASURED,
        "Use an implementation that is right here; keep prompts below one chunk otherwise.",
    ),
    Rule(
        "ATC112",
        "keys-missing",
        "Keys that the layer declares are not seen",
        "Some declared keys get no weight and no simple rule explains which.",
        "Context is lost.",
        _MEASURED,
        "Do not use this implementation for the model; the reproduction shows which keys are missing.",
    ),
)

#: Slugs whose size in the checkpoint differs from that of the probe.
_SIZED = ("window-ignored", "window-off-by-one", "window-size-wrong", "chunk-wrong")

#: Slugs about what the caller feeds; how far a query reaches besides is another finding's matter.
_ABOUT_INPUT = ("padding-ignored", "packing-leak", "packing-split", "cache-mismatch")


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """One issue a slug of this group and head group."""
    return issues(view, {rule.slug: rule.title for rule in RULES})


def issues(view: View, titles: dict[str, str]) -> Iterator[Issue]:
    """The differences of a view that have one of the slugs of `titles`, as issues."""
    if view.broken:
        return
    for difference in view.differences:
        if view.dropout and not difference.leaked:
            continue
        for slug in difference.slugs:
            if slug in titles:
                words = headline(view, difference, titles[slug])
                yield Issue(
                    slug,
                    view,
                    message(view, difference, slug, words),
                    of_difference(view, difference),
                    difference.leaked + difference.missed,
                    words,
                )


def headline(view: View, difference: Difference, title: str) -> str:
    """What is wrong, and in how many heads where it is not all of them."""
    heads = view.some_heads(difference.heads)
    return title + (f" in {_count(heads, 'head')} of {view.calls[0].num_heads}" if heads else "")


def message(view: View, difference: Difference, slug: str, words: str) -> str:
    """One sentence: what is wrong, what was declared, what is effective, and the real size where the probe's differs."""
    comparable = view.spec.mask_known or difference.declared_short != "unknown"
    if comparable and slug not in _ABOUT_INPUT and difference.declared_short != difference.effective_short:
        against = "eager has" if difference.beside else "declared"
        words += f": {against} {difference.declared_short}, effective {difference.effective_short}"
    return words + (real_size(view) if slug in _SIZED else "")


def real_size(view: View) -> str:
    """The size the checkpoint declares, where the tiny model's differs from it."""
    if view.real_spec is None or view.run.overrides:
        return ""
    probed, real = view.spec.mask, view.real_spec.mask
    if real.chunk is not None and real.chunk != probed.chunk:
        return f" (probed with chunks of {probed.chunk}; the model's are {real.chunk})"
    left, real_left = probed.window.left, real.window.left
    if left is not None and real_left is not None and left != real_left:
        if real.window.causal:
            return f" (probed with a window of {left + 1}; the model's is {real_left + 1})"
        return f" (probed with a reach of {left}; the model's is {real_left})"
    return ""


def _count(items: Iterable[int], word: str) -> str:
    number = len(tuple(items))
    return f"{number} {word}{'' if number == 1 else 's'}"


GROUP = RuleGroup("masks", RULES, order=10, judge=judge)
