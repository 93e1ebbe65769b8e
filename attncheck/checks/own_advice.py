"""What mends a wrong kernel call that a framework makes itself, and the command that shows it again."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.checks.shape_results import wrong
from attncheck.findings import Recommendation, Setting
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.written import CallReading, OwnCalls, Suggested


def reproduction(own: OwnCalls, target: str) -> str:
    """The command, with the environment variables in front that decide what the framework runs."""
    return " ".join(filter(None, (own.before, "attncheck compare", target, own.typed)))


def advice(slug: str, reading: CallReading, own: OwnCalls) -> Iterator[Recommendation]:
    """The settings that mend it, tried where kernels run; of a kernel that does not run, how that stays so."""
    suggested = own.group(reading).suggested
    if slug == "causal-misaligned":
        kind = str(reading.call.arguments.get("attn_mask_type", "causal"))
        value = f'attn_mask_type="{kind}_bottom_right"'
        yield Recommendation(
            "With fewer queries than keys, ask for the bottom-right diagonal (InferenceParams does so by itself).",
            (Setting(own.framework, "attn_mask_type", f"{kind}_bottom_right", value),),
        )
    elif not reading.call.selected and (suggested is None or reading.call.switched_off):
        yield _kept_off(reading)
    elif suggested is not None:
        yield from _instead(suggested, reading, own)


def _kept_off(reading: CallReading) -> Recommendation:
    call = reading.call
    name, _, value = call.off.partition("=")
    setting = (Setting("shell", name, value, f"export {call.off}"),) if call.off else ()
    if call.switched_off:
        return Recommendation(f"{call.kernel} does not run here: keep {call.off}.", setting)
    how = f"; {call.off} keeps it so on other machines" if call.off else ""
    return Recommendation(f"{call.kernel} is not selected here, so nothing has to change{how}.", setting)


def _instead(suggested: Suggested, reading: CallReading, own: OwnCalls) -> Iterator[Recommendation]:
    """What to write for the layers of a reading."""
    if suggested.upgrade:
        text = f"Upgrade to {suggested.upgrade}, where every kernel takes the same number."
        yield Recommendation(text, (Setting("shell", "pip", suggested.upgrade, f'pip install "{suggested.upgrade}"'),))
    if suggested.switch:
        name, _, value = suggested.switch.partition("=")
        setting = Setting("shell", name, value, f"export {suggested.switch}")
        yield Recommendation("Switch that flash-attention off: the next backend is then taken.", (setting,))
    group = own.group(reading)
    tried = [one for one in own.readings if one.mended and one.layers == group.layers and one.part is group.part]
    right = [one for one in tried if one.reading.outcome is Outcome.READ and _right(one)]
    if not right:
        return
    ran = [one.call.kernel for one in right if one.reading.basis is Basis.MEASURED]
    known = any(one.call.known for one in right)
    rests = "what is known" if known else "the documentation"
    how = f"measured right with {', '.join(ran)}" if ran else f"by {rests} of that release"
    then = next((f"; {one.call.kernel} then runs" for one in right if one.call.selected), "")
    longest = suggested.longest
    bound = f" for sequences of at most {longest} tokens, and of no longer ones" if longest is not None else ""
    yield Recommendation(
        f"Write {suggested.paste}: it means what these layers declare{bound}, {how}{then}.",
        (Setting(own.framework, "DotProductAttention", suggested.paste, suggested.paste),),
    )


def _right(reading: CallReading) -> bool:
    seen = reading.reading
    return seen.wrong is None and not any(wrong(seen, training=False)) and not reading.call.terms
