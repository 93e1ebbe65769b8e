"""`doctor --reproduce`: the incident through real worker processes on fake kernels, and every refusal in one line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from attncheck import reproduce
from attncheck.cli import app
from attncheck.environment import Environment
from attncheck.errors import NoVerdictError, UsageError
from attncheck.render import interface
from attncheck.report import Report
from attncheck.semantics.incident import WindowIncident
from tests.backends.environments import CPU_ONLY, H100, T4, with_libraries

SMALL = reproduce.Setting(batch=1, length=64, heads=2, head_dim=16, device="cpu")
OPTIONS = reproduce.ReproduceOptions("te-window", window=16, timeout=60.0)


def reproduced(*plugins: str) -> Report:
    return reproduce.reproduce(OPTIONS, setting=SMALL, plugins=tuple(f"tests.plugins.{name}" for name in plugins))


@pytest.fixture(scope="module")
def report() -> Report:
    return reproduced("window_kernels_beside")


def test_the_report_holds_the_incident_and_fails_nobody(report: Report) -> None:
    incident = report.incident
    assert isinstance(incident, WindowIncident)
    assert incident.reproduced
    assert (incident.cells, incident.distance) == (48, 16)
    assert report.exit_code == 0
    assert report.command == "doctor"
    assert report.arguments == {"--reproduce": "te-window", "--window": "16"}
    assert set(incident.versions) <= set(reproduce.VERSIONS)
    assert incident.versions["torch"]


def test_what_stands_beside_the_pair_is_compared_and_what_broke_is_told(report: Report) -> None:
    incident = report.incident
    assert incident is not None
    assert list(incident.others) == ["te-flash - te-fused"]
    assert incident.others["te-flash - te-fused"] == pytest.approx(0.25, abs=0.01)
    assert len(incident.remarks) == 1
    assert re.match(r"te-unfused gave nothing to compare: AttributeError: no such thing", incident.remarks[0])


def test_a_kernel_that_ends_its_process_is_a_line_and_exit_3() -> None:
    with pytest.raises(NoVerdictError, match=r"te-window reached no verdict: the process died of SIGABRT") as error:
        reproduced("window_kernels_dying")
    assert error.value.exit_code == 3


@pytest.mark.parametrize("format_name", ["terminal", "markdown", "json"])
def test_every_format_shows_it(report: Report, format_name: str) -> None:
    for style in (interface.Style(width=60), interface.Style(width=120, unicode=False)):
        text = interface.render(report, format_name, style)
        for needed in ("48", "te-flash - te-fused", "te-unfused gave nothing to compare"):
            assert needed in " ".join(text.split()), needed
        if format_name == "terminal":
            assert max(map(len, text.splitlines())) <= style.width
            assert "reproduced: the number 16 means 17 keys to flash-attn-2 and 16 keys" in " ".join(text.split())
        if not style.unicode:
            assert text.isascii()


def test_the_json_says_what_differs(report: Report) -> None:
    found: dict[str, Any] = json.loads(interface.render(report, "json"))["incident"]
    assert found["reproduced"] is found["exact"] is found["heads_agree"] is True
    assert found["keys"] == {"flash-attn-2": 17, "cudnn-graph": 16}
    assert found["words"]["cudnn-graph"] == [
        "left_bound=16, right_bound=0",
        "left_bound=17, right_bound=0",
    ]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (CPU_ONLY, r"it needs a GPU \(no NVIDIA driver"),
        (T4, r"the GPU is of the wrong generation \(Tesla T4 7\.5\)"),
        (with_libraries(H100, {"nvidia-cudnn-frontend": None}), r"NOT RUN: nvidia-cudnn-frontend is not installed$"),
        (with_libraries(H100, {"flash-attn": None}), r"NOT RUN: flash-attn is not installed$"),
    ],
    ids=["no GPU", "old GPU", "no cuDNN frontend", "no flash-attn"],
)
def test_what_cannot_run_is_not_run(environment: Environment, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "read_environment", lambda: environment)
    with pytest.raises(NoVerdictError, match=told) as error:
        reproduce.reproduce(OPTIONS)
    assert "\n" not in error.value.message
    assert error.value.hint


def test_a_missing_package_is_named_in_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = with_libraries(H100, {"nvidia-cudnn-frontend": None, "flash-attn": None})
    monkeypatch.setattr(reproduce, "read_environment", lambda: bare)
    with pytest.raises(NoVerdictError) as error:
        reproduce.reproduce(OPTIONS)
    assert error.value.hint == "pip install flash-attn nvidia-cudnn-frontend"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--reproduce", "te-windows"], "'te-windows' is not a known incident; there are: te-window"),
        (["--window", "8"], "--window 8 belongs to --reproduce"),
        (["--reproduce", "te-window", "--window", "0"], "--window 0 is outside 1 .. 2047"),
        (["--reproduce", "te-window", "--window", "2048"], "--window 2048 is outside 1 .. 2047"),
        (["--reproduce", "te-window", "--static"], "--static cannot go with it"),
        (["--reproduce", "te-window", "--check", "install-broken"], "--check cannot go with it"),
        (["--reproduce", "te-window", "--thorough"], "--thorough cannot go with it"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_the_command_line_reaches_the_use_case(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    seen = []

    def fake(options: reproduce.ReproduceOptions, progress: object) -> Report:
        seen.append(options)
        return report

    monkeypatch.setattr(reproduce, "reproduce", fake)
    result = CliRunner().invoke(app, ["doctor", "--reproduce", "te-window", "--window", "512", "--format", "json"])
    assert result.exit_code == 0
    assert [(options.name, options.window) for options in seen] == [("te-window", 512)]
    assert json.loads(result.stdout)["incident"]["cells"] == 48


def test_published_settings() -> None:
    options = reproduce.asked("te-window", None)
    assert options is not None
    assert options.window == 1024
    published = reproduce.PUBLISHED
    assert (published.length, published.heads, published.head_dim) == (2048, 64, 64)
    assert (published.dtype, published.scale) == ("float16", 1.0)
    assert reproduce.asked(None, None) is None
    with pytest.raises(UsageError):
        reproduce.asked(None, 4)


def test_what_is_not_installed_beside_the_pair_is_one_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "read_environment", lambda: with_libraries(H100, {"transformer-engine": None}))
    incident = reproduced("window_kernels").incident
    assert incident is not None
    assert incident.reproduced
    assert incident.others == {}
    assert incident.remarks[0].startswith(
        "te-flash, te-fused, te-unfused: NOT RUN, transformer-engine is not installed"
    )
    assert len(incident.remarks) == 1
