"""The convention table as rows: what a number means is worked out from what was read, never from a name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.render import features, readings
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Alignment
from attncheck.verdicts import Verdict
from tests.sample_machines import ABILITIES, CONVENTIONS, aligned, read, refused


@pytest.mark.parametrize(
    ("left", "means", "write"),
    [(8, "9 keys", "size=W-1"), (7, "8 keys", "size=W"), (6, "7 keys", "size=W+1"), (0, "1 key", "size=W+7")],
)
def test_what_to_write_follows_from_the_keys_that_were_seen(left: int, means: str, write: str) -> None:
    (rule,) = readings.rules([read("any", "size=8", left, 0)])
    assert (rule.means, rule.write) == (means, write)


def test_the_pattern_says_where_the_number_stands() -> None:
    row = replace(read("any", "heads=8, window=8", 8, 0), pattern="heads=8, window={}")
    (rule,) = readings.rules([row])
    assert rule.write == "heads=8, window=W-1"


def test_a_mask_that_is_written_out_has_no_meaning_of_8() -> None:
    for call, left, write in (("i - j < 8", 7, "i - j < W"), ("i - j <= 8", 8, "i - j <= W-1")):
        (rule,) = readings.rules([read("any", call, left, 0)])
        assert (rule.means, rule.write) == ("–", write)


def test_another_number_is_no_meaning_of_8() -> None:
    nine = replace(read("any", "bound=9", 8, 0), number=9, pattern="bound={}")
    (rule,) = readings.rules([nine])
    assert (rule.means, rule.write) == ("–", "bound=W")
    (rule,) = readings.rules([nine, read("any", "length=8", 7, 0)])
    assert (rule.means, rule.write) == ("8 keys", "bound=W")


def test_a_documentation_that_is_one_off_still_leaves_a_way_to_write_it() -> None:
    (rule,) = readings.rules([read("any", "size=8", 8, 0, promise=False)])
    assert (rule.means, rule.write) == ("9 keys", "size=W-1")


def test_a_reading_that_breaks_its_promise_is_no_advice() -> None:
    broken = read("any", "size=8", 20, 0, promise=False)
    (rule,) = readings.rules([broken, read("any", "causal=True, size=8", 8, 0)])
    assert rule.write == "causal=True, size=W-1"
    (rule,) = readings.rules([broken])
    assert (rule.means, rule.write, rule.without) == ("21 keys", "", "none that does what is promised")


def test_an_api_without_a_window_is_said_to_have_none() -> None:
    (rule,) = readings.rules([read("any", "is_causal=True", None, 0, "causal")])
    assert rule.without == "it has no window"


def test_an_api_that_never_ran_has_no_rule_and_no_block() -> None:
    idle = Convention("any", "size=8", "window", 64, 64, Outcome.NOT_RUN, None, detail="no GPU")
    assert readings.rules([idle]) == []
    assert readings.blocks([idle]) == []
    assert readings.never_ran([idle]) == {"no GPU": ["any"]}


def test_one_row_a_call_with_the_alignment_of_both_unequal_lengths() -> None:
    (row,) = readings.rows(aligned("any", "size=8", 8, Alignment.BOTTOM_RIGHT, 32))
    assert (row.keys, row.back, row.ahead, row.alignment) == ("9", "8", "0", "bottom-right")
    assert row.remarks == (), "the legend says it of all"


def test_queries_without_keys_are_a_remark_only_where_the_diagonal_does_not_say_so() -> None:
    rows = aligned("any", "size=8", 8, Alignment.BOTTOM_RIGHT, 32)
    assert "those whose window lies before or after all keys see none" in readings.lengths_legend(rows)
    odd = aligned("any", "size=8", 8, Alignment.BOTTOM_RIGHT, 30)
    (row,) = readings.rows(odd)
    assert row.remarks == ("64x32: 30 of 64 queries see no key",)
    assert "see none" not in readings.lengths_legend(odd)
    assert readings.lengths_legend([read("any", "size=8", 8, 0)]) == ""


@pytest.mark.parametrize(
    "detail", ["32 rows that see no key sum to 1, not 0", "32 of 64 rows hold NaN or Inf"], ids=["weights", "NaN"]
)
def test_rows_that_should_be_empty_and_are_not_are_told_once_and_earn_no_mark(detail: str) -> None:
    """Recorded: cuDNN under `causal_lower_right`, whose other rows are right."""
    equal, short, long = aligned("any", "size=8", 8, Alignment.BOTTOM_RIGHT, 32)
    filled = replace(long, empty_rows=0, detail=detail)
    (row,) = readings.rows([equal, short, filled])
    assert row.remarks == (f"64x32: {detail}",)
    assert row.mark is None
    (row,) = readings.rows([equal, short, replace(filled, agrees=False, expected="9 keys")])
    assert row.mark is Verdict.MISMATCH
    (row,) = readings.rows([equal, short, replace(filled, detail="")])
    assert row.remarks == ("64x32: 0 of 64 queries see no key",)


@pytest.mark.parametrize(
    ("left", "right", "alignment", "lengths", "count"),
    [
        (8, 0, Alignment.BOTTOM_RIGHT, (64, 32), 32),
        (8, 3, Alignment.BOTTOM_RIGHT, (64, 32), 29),
        (None, None, Alignment.BOTTOM_RIGHT, (64, 32), 0),
        (8, 0, Alignment.BOTTOM_RIGHT, (32, 64), 0),
        (8, 0, Alignment.TOP_LEFT, (64, 32), 24),
        (None, 0, Alignment.TOP_LEFT, (64, 32), 0),
        (7, 0, None, (64, 64), 0),
    ],
)
def test_queries_whose_window_reaches_no_key(
    left: int | None, right: int | None, alignment: Alignment | None, lengths: tuple[int, int], count: int
) -> None:
    reading = read("any", "size=8", left, right, lengths=lengths, alignment=alignment)
    assert readings.beyond_keys(reading) == count
    shift = lengths[1] - lengths[0] if alignment is Alignment.BOTTOM_RIGHT else 0
    near = [
        range(0 if left is None else i + shift - left, lengths[1] if right is None else i + shift + right + 1)
        for i in range(lengths[0])
    ]
    assert sum(not set(window) & set(range(lengths[1])) for window in near) == count


def test_alignments_that_disagree_are_both_told() -> None:
    equal, short, _ = aligned("any", "causal=True", None, Alignment.TOP_LEFT)
    (row,) = readings.rows([equal, short, refused("any", "causal=True", "q_len > kv_len", (64, 32), "causal")])
    assert row.alignment == "top-left / refused"
    assert row.remarks == ("64x32: refused: q_len > kv_len",)


def test_an_output_of_zeros_does_not_read_as_unbounded() -> None:
    (row,) = readings.rows([read("any", "size=(-1, 0)", None, None, "unbounded", False, empty=64)])
    assert (row.mark, row.keys, row.back, row.ahead) == (Verdict.MISMATCH, "0", "–", "–")
    assert row.remarks[0] == "no query sees any key: every output row is 0"
    assert "promises" in row.remarks[1]
    zeros = replace(read("any", "size=(-1, 0)", None, None, "unbounded", None, empty=64), detail="all rows are 0")
    (row,) = readings.rows([zeros])
    assert row.remarks == ("no query sees any key: all rows are 0",)


@pytest.mark.parametrize(
    ("outcome", "mark", "word"),
    [
        (Outcome.REFUSED, Verdict.NOT_APPLICABLE, "refused"),
        (Outcome.CRASHED, Verdict.ERROR, "broke"),
        (Outcome.NOT_RUN, Verdict.NOT_RUN, "NOT RUN"),
    ],
)
def test_what_was_not_read_has_no_numbers(outcome: Outcome, mark: Verdict, word: str) -> None:
    entry = Convention("any", "size=8", "window", 64, 64, outcome, None, detail="why")
    (row,) = readings.rows([entry])
    assert (row.mark, row.keys, row.back, row.ahead) == (mark, word, "", "")
    assert row.remarks == (f"{word}: why",)


def test_a_mark_needs_a_promise() -> None:
    (row,) = readings.rows([read("any", "size=8", 8, 0, promise=None)])
    assert row.mark is None


def test_a_promise_broken_at_one_length_marks_the_row() -> None:
    equal, short, long = aligned("any", "size=8", 8, Alignment.BOTTOM_RIGHT)
    (row,) = readings.rows([equal, replace(short, agrees=False, expected="top-left"), long])
    assert row.mark is Verdict.MISMATCH
    assert "32x64: its documentation promises top-left" in row.remarks


def test_apis_share_a_block_only_where_every_call_reads_alike() -> None:
    blocks = {block.apis: block for block in readings.blocks(CONVENTIONS)}
    assert ("sdpa-math", "sdpa-efficient", "sdpa-cudnn") in blocks
    assert ("flash-attn-2", "flash-attn-2-varlen") in blocks
    assert ("flash-attn-4",) in blocks


def test_the_published_confusion_shows_by_itself() -> None:
    rules = {rule.api: rule for rule in readings.rules(CONVENTIONS)}
    assert (rules["flash-attn-2"].means, rules["flash-attn-2"].write) == ("9 keys", "window_size=(W-1, 0)")
    assert rules["cudnn-graph"].means == "8 keys"
    assert rules["cudnn-graph"].write.endswith("sliding_window_length=W")
    assert (rules["sdpa-math"].alignment, rules["flash-attn-2"].alignment) == ("top-left", "bottom-right")


def test_wrong_answers_come_first_within_a_feature() -> None:
    rows = [row for row in features.rows(ABILITIES) if row.feature == "empty-rows bool mask"]
    assert [row.mark for row in rows] == [Verdict.MISMATCH, Verdict.OK, Verdict.NOT_APPLICABLE]
    assert rows[0].apis == ("sdpa-cudnn",)
    assert features.remarks(rows[0]) == ["a uniform row where the others give 0"]


def test_every_ability_is_in_a_row_or_named_as_not_run() -> None:
    rows = {(row.feature, api) for row in features.rows(ABILITIES) for api in row.apis}
    silent = {api for apis in features.never_ran(ABILITIES).values() for api in apis}
    assert silent == {"flash-attn-3"}
    for ability in ABILITIES:
        assert (ability.feature, ability.api) in rows or ability.api in silent


def test_a_feature_that_did_not_run_says_why() -> None:
    ran = Ability("any", "gqa", "interleaved", Outcome.READ, Basis.MEASURED, True)
    idle = Ability("any", "sinks", "", Outcome.NOT_RUN, None, detail="out of time")
    other = replace(idle, feature="empty-rows")
    assert [row.feature for row in features.rows([ran, idle, other])] == ["gqa"]
    assert features.never_ran([ran, idle, other]) == {"out of time": ["any (sinks, empty rows)"]}
    assert features.never_ran([idle, other]) == {"out of time": ["any"]}


def test_widths_that_were_not_tried_say_why() -> None:
    few = Ability(
        "any",
        "head_dim",
        "64, 128; 2 others not tried",
        Outcome.READ,
        Basis.MEASURED,
        True,
        detail="512 refused: too wide; 8, 16 not run: it compiles for 5 s: --thorough",
        figures={"not tried": "8, 16"},
    )
    assert features.never_ran([few]) == {"it compiles for 5 s: --thorough": ["any (other head_dim)"]}
    (row,) = features.rows([few])
    assert row.value == "64, 128; 2 others not tried"


def test_what_a_stand_in_can_do_is_not_told_as_an_ability_of_its_library() -> None:
    """Older reports have it."""
    ran = Ability("xformers-mask", "gqa", "interleaved", Outcome.READ, Basis.MEASURED, True)
    assert [row.apis for row in features.rows([ran, replace(ran, api="any")])] == [("any",)]
    assert features.never_ran([replace(ran, outcome=Outcome.NOT_RUN)]) == {}
    said = readings.remarks([read("xformers-mask", "size=8", 7, 0), read("any", "size=8", 7, 0)])
    assert said == [
        "xformers-mask: the mask classes of xformers, applied by plain torch: no operator of xformers runs; "
        "read for its numbers only."
    ]


def test_dashes_of_the_table_are_explained_where_there_are_some() -> None:
    assert readings.remarks([read("any", "size=8", 8, 0)]) == []
    number = '– under "8 is": it takes no number; a mask written out means what it says.'
    assert readings.remarks([read("any", "i - j < 8", 7, 0)]) == [number]
    equal, short, _ = aligned("any", "size=8", 8, Alignment.TOP_LEFT)
    long = read("any", "causal=True", None, 0, "causal", lengths=(64, 32))
    said = readings.remarks([equal, short, long])
    assert said == ['– under "32x64 / 64x32": not read, or no row tells.']
