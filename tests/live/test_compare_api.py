"""`attncheck.compare` in Python: what it takes, and that it says the same as the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import attncheck
from tests.live.live_models import model

OPTIONS: dict[str, Any] = {"impl": ["eager", "sdpa"], "scenario": ["plain"], "offline": True}


@pytest.mark.usefixtures("shared_worker")
def test_a_config_object_a_mapping_a_file_and_a_model_type(tmp_path: Path) -> None:
    config = model("mistral").config
    config.save_pretrained(tmp_path)
    targets = (config, config.to_dict(), str(tmp_path), "mistral")
    reports = [attncheck.compare(target, **OPTIONS) for target in targets]
    assert [report.command for report in reports] == ["compare"] * 4
    assert all(report.exit_code == 0 for report in reports)
    assert [report.model.source for report in reports if report.model] == ["live", "live", "path", "model_type"]
    groups = [[group.spec for group in report.model.groups] for report in reports[:3] if report.model]
    assert groups[0] == groups[1] == groups[2]
    assert reports[0].raise_for_findings() is reports[0]


@pytest.mark.usefixtures("shared_worker")
def test_overrides_and_what_fails(tmp_path: Path) -> None:
    report = attncheck.compare(
        "gemma2", impl=["eager"], scenario=["bidirectional"], offline=True, fail_on="warning",
        overrides={"use_bidirectional_attention": True},
    )  # fmt: skip
    assert report.arguments["set"] == "use_bidirectional_attention=true"
    assert report.fail_on == "warning"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: attncheck.compare("mistral", impl="sdpa"), "expected a list"),
        (lambda: attncheck.compare("mistral", imple=["sdpa"]), "no argument imple"),
        (lambda: attncheck.compare(12), "neither a path or id"),
        (lambda: attncheck.compare(model("llama")), "not a model"),
    ],
)
def test_wrong_arguments_are_one_clear_line(call: Any, says: str) -> None:
    with pytest.raises(attncheck.AttnCheckError, match=says) as raised:
        call()
    assert raised.value.exit_code == 2


def test_public_names_are_there_and_no_others() -> None:
    assert {"compare", "verify", "Report", "FindingsError"} <= set(dir(attncheck))
    assert all(getattr(attncheck, name) is not None for name in attncheck.__all__)
    with pytest.raises(AttributeError, match="no attribute 'verfy'"):
        attncheck.verfy  # noqa: B018
    assert (Path(attncheck.__file__).parent / "py.typed").is_file()
