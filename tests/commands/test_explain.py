"""`attncheck explain`: a pager on a terminal too small for the text, never in a pipe; names nearly right."""

from __future__ import annotations

import os
import pydoc
import sys

import pytest
from typer.testing import CliRunner

from attncheck import cli
from attncheck.commands import explain


class Screen:
    """Standard streams that are a terminal."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self.written = ""
        self.encoding = "utf-8"

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, lines: int, code: str | None = None) -> tuple[str, str]:
    """What the pager got, and what was written."""
    paged: list[str] = []
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stdin", Screen(terminal))
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(pydoc, "pager", paged.append)
    monkeypatch.setattr(explain.shutil, "get_terminal_size", lambda: os.terminal_size((100, lines)))
    explain.explain(code)
    return "".join(paged), screen.written


def test_a_long_text_pages_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGER", raising=False)
    monkeypatch.setenv("LESS", "-R")
    paged, written = shown(monkeypatch, terminal=True, lines=24)
    assert "window-ignored" in paged
    assert written == ""


def test_a_text_that_fits_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    paged, written = shown(monkeypatch, terminal=True, lines=500, code="ATC101")
    assert paged == ""
    assert "window-ignored" in written


def test_a_pipe_never_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    paged, written = shown(monkeypatch, terminal=False, lines=5)
    assert paged == ""
    assert "window-ignored" in written


def test_other_pagers_get_no_escape_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "cat")
    monkeypatch.setenv("FORCE_COLOR", "1")
    paged, _ = shown(monkeypatch, terminal=True, lines=24)
    assert "\x1b" not in paged


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("window-ignore", "window-ignored"), ("ATC11", "ATC1"), ("101", "ATC101"), ("softcap_droped", "softcap-dropped")],
)
def test_names_nearly_right_are_suggested(typed: str, meant: str) -> None:
    result = CliRunner().invoke(cli.app, ["explain", typed])
    assert result.exit_code == 2
    assert meant in result.stderr
