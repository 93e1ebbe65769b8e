"""A sample of the planted-fault campaign: every fault is flagged and rightly named, healthy controls stay quiet."""

import pytest

from tests.campaigns.planted import examine

SAMPLE = ("mistral", "gemma2", "gpt_oss", "qwen2_moe", "inkling_text")

#: What transformers itself does wrong before the planted function is even called: packed documents leak when an
#: all-ones mask is passed, and gpt_oss never hands position_ids to its mask at all.
GENUINE = {"ones-mask: packing-leak"}
GENUINE_FOR = {"gpt_oss": {"no-mask: packing-leak"}}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("model_type", SAMPLE)
def test_every_planted_fault_is_found(model_type: str, dtype: str) -> None:
    rows = list(examine(model_type, (dtype,)))
    planted = [row for row in rows if "fault" in row]
    assert len(planted) >= 10
    assert [row for row in planted if not row["flagged"]] == []
    assert [row for row in planted if not row["right"]] == []
    alarms = {text for row in rows if "control" in row for text in row["control"]}
    assert alarms <= GENUINE | GENUINE_FOR.get(model_type, set())


def test_every_fault_is_planted_somewhere_in_the_sample() -> None:
    from tests.faults import FAULTS

    seen = {row["fault"] for model_type in SAMPLE for row in examine(model_type, ("float32",)) if "fault" in row}
    assert seen == {fault.name for fault in FAULTS}
