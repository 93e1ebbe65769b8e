"""Pieces of GitHub Markdown: escaped text, code, tables, folds, and a page that never outgrows an issue."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

#: Characters of a page. GitHub refuses an issue or comment of more than 65,536; the rest is left for the writer.
LIMIT = 60_000
#: Kept free for the note that says what was left out.
_NOTE = 1_500
#: Parts that the note names.
_NAMED = 12
_LONGEST_TEXT = 1_000
_LONGEST_CODE = 6_000

_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
#: What would turn the beginning of a line into a heading, a list or a rule.
_OPENING = re.compile(r"^(?=[-+#=](?:[-#= ]|$))|^(\d+)(?=[.)](?: |$))")
#: What GitHub would turn into a message to somebody, or into a link to an issue of the wrong repository.
_LINKED = re.compile(r"(@(?=[A-Za-z0-9])|#(?=\d)|\bGH-(?=\d))")


def clipped(value: str, longest: int = _LONGEST_TEXT) -> str:
    """The value, or its beginning and how many characters are missing."""
    if len(value) <= longest:
        return value
    return f"{value[:longest]} ... ({len(value) - longest} more characters)"


def text(value: str, longest: int = _LONGEST_TEXT) -> str:
    """Words of a report as one line in which nothing acts as markup, HTML, a mention or a reference."""
    line = html.escape(clipped(" ".join(value.split()), longest), quote=False)
    line = _MARKUP.sub(lambda found: f"\\{found[0]}", line)
    return _LINKED.sub(r"\1&#8203;", _OPENING.sub(lambda found: f"{found[1]}\\" if found[1] else "\\", line))


def plain_html(value: str, longest: int = _LONGEST_TEXT) -> str:
    """The same for inside an HTML element, where Markdown does not act."""
    return _LINKED.sub(r"\1&#8203;", html.escape(clipped(" ".join(value.split()), longest), quote=False))


def code(value: str, longest: int = _LONGEST_TEXT) -> str:
    """A code span, in a table as well as outside of one; "" for nothing."""
    line = clipped(" ".join(value.split()), longest)
    if not line:
        return ""
    if "|" in line:  # no escape for it works in a code span both in and outside of a table
        return f"<code>{_MARKUP.sub(lambda found: f'&#{ord(found[0])};', plain_html(line, longest))}</code>"
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def fenced(value: str, language: str = "") -> str:
    """A code block that its content cannot close."""
    body = value.strip("\n")
    if len(body) > _LONGEST_CODE:
        body = f"{body[:_LONGEST_CODE]}\n... ({len(body) - _LONGEST_CODE} more characters; --format json has them)"
    fence = "`" * max(3, _longest_run(body) + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; "" without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *lines])


def bullets(lines: Iterable[str]) -> str:
    """A list of lines that are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)


def fold(summary: str, parts: Iterable[str], *, strong: str = "") -> str:
    """A part that opens when its summary, plain words, is clicked. The blank lines let Markdown act inside."""
    bold = f"<b>{plain_html(strong)}</b> " if strong else ""
    body = "\n\n".join(part for part in parts if part)
    return f"<details><summary>{bold}{plain_html(summary, 300)}</summary>\n\n{body}\n\n</details>"


class Page:
    """Blocks one after another as long as they fit; what does not is named in a note at the end.

    Only whole blocks are left out, so that no fold, fence or table stays open.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._room = limit - _NOTE
        self._blocks: list[str] = []
        self._missing: list[str] = []

    def reserve(self, block: str) -> None:
        """Keep room for a block that comes last."""
        self._room -= len(block) + 2

    def release(self, block: str) -> None:
        """Give that room back, just before the block is added."""
        self._room += len(block) + 2

    def add(self, block: str, name: str = "", *, short: str = "") -> None:
        """Add a block, or its short form where the block is too long, or note that it is missing under its name."""
        for form in (block, short):
            if form and len(form) + 2 <= self._room:
                self._blocks.append(form)
                self._room -= len(form) + 2
                if form is block:
                    return
                break
        if block:
            self._missing.append(name or "a part without a name")

    def text(self) -> str:
        """The page, ending in a newline."""
        if self._missing:
            names = text(", ".join(self._missing[:_NAMED]), 1_000)
            names += f" and {len(self._missing) - _NAMED} more" if len(self._missing) > _NAMED else ""
            note = f"> Left out or shortened, to stay within what GitHub accepts: {names}. `--format json` has it all."
            return "\n\n".join([*self._blocks, note]) + "\n"
        return "\n\n".join(self._blocks) + "\n"


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall("`+", value)), default=0)
