"""What keeps the page of a real machine readable: nothing said twice, long texts cut, nothing hidden."""

from __future__ import annotations

from dataclasses import replace

from attncheck.findings import Evidence, Finding, Severity
from attncheck.render import features, interface
from attncheck.render.json import to_wire
from attncheck.render.kernels import shortened
from attncheck.semantics.convention import Ability, Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.timing import Bench
from attncheck.semantics.timing_changes import compare
from tests import sample_benches, sample_machines

CUTE = "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at__tensor0000o2111210"


def page(*findings: Finding) -> str:
    return interface.render(replace(sample_machines.cpu_report(), findings=findings), "terminal")


def found(severity: Severity = Severity.ERROR, message: str = "It is wrong.", **more: str) -> Finding:
    evidence = Evidence(declared=more.pop("declared", "right"), effective=more.pop("effective", "wrong"))
    return Finding("ATC824", "kernel-output-wrong", severity, message, Basis.MEASURED, evidence=evidence, **more)  # type: ignore[arg-type]


def test_kernels_are_named_without_their_arguments() -> None:
    assert shortened(CUTE) == "kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90"
    assert shortened("void flash::flash_fwd_kernel<Traits<64>>(Params)") == "flash::flash_fwd_kernel"
    text = page(found(kernel=CUTE))
    assert "measured: [kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90]" in text
    assert "tensor0000" not in text


def test_a_warning_without_a_scenario_is_not_folded_into_an_error() -> None:
    text = page(found(), found(Severity.WARNING, "Another thing."))
    assert "! warning  kernel-output-wrong" in text
    assert "Another thing." in text
    assert "opt-in" not in text


def test_long_evidence_is_cut_at_a_word_on_the_page_only() -> None:
    report = replace(sample_machines.cpu_report(), findings=(found(effective="operator missing " * 100),))
    text = interface.render(report, "terminal")
    assert " [...]" in text
    assert text.count("operator") < 25
    assert to_wire(report)["findings"][0]["evidence"]["effective"].count("operator") == 100


def test_later_messages_do_not_say_their_evidence_twice() -> None:
    text = page(found(message="First: wrong."), found(message="Second: wrong, not right."))
    assert text.count("effective  wrong") == 1
    assert text.count("declared   right") == 1


def test_a_refusal_of_several_calls_stands_below_the_last_of_them() -> None:
    report = sample_machines.h100_report()
    refusal = next(c for c in report.conventions if c.outcome is Outcome.REFUSED and c.q_len == c.kv_len)
    calls = tuple(replace(refusal, call=f"attn_mask={number}") for number in range(3))
    text = interface.render(replace(report, conventions=calls, abilities=(), findings=()), "terminal")
    assert text.count(refusal.detail) == 1
    assert text.index("attn_mask=2") < text.index(refusal.detail)


def test_exceptions_are_named_instead_of_the_rule() -> None:
    names = [f"api-{number}" for number in range(6)]
    right = [Ability(name, "gqa", "interleaved", Outcome.READ, Basis.MEASURED, True) for name in names]
    wrong = Ability("odd", "gqa", "tiled", Outcome.READ, Basis.MEASURED, False)
    assert [row.who for row in features.rows([*right, wrong])] == ["odd", "all but odd"]
    elsewhere = Ability("new", "dtype", "float16", Outcome.READ, Basis.MEASURED, True)  # nobody asked it about gqa
    assert features.rows([*right, wrong, elsewhere])[1].who == ", ".join(names)
    assert [row.who for row in features.rows(right)] == [", ".join(names)]


def test_why_a_call_is_no_longer_timed_stands_in_json() -> None:
    before = sample_benches.standard_report().bench
    assert before is not None
    cell = next(cell for cell in before.cells if cell.median)
    now = Bench((replace(cell, median=None, excluded="window-ignored"),))
    changed = replace(sample_benches.standard_report(), changes=compare(before, now, "old.json", {}))
    assert to_wire(changed)["bench_changes"]["lost"][0]["reason"] == "window-ignored"
