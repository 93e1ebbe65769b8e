"""Pieces of an HTML page: elements that escape whatever is not HTML already, tables, lists, folds, text to copy."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.text import Text

from attncheck.render.markup import clipped
from attncheck.render.redact import printable

#: What may stand in `Text` styles; each word is a class of the page's style sheet.
_STYLES = frozenset(("bold", "dim", "red", "green", "yellow", "cyan", "magenta"))
_VOID = frozenset(("br", "img", "meta", "path", "rect", "wbr"))
#: Characters that turn the direction of the text around them, and two that no XML may hold.
_HIDDEN = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_LONGEST_CODE = 20_000


class Html(str):
    """A string that is HTML already. Anything made of it by plain string operations is a `str` again: escaped."""

    __slots__ = ()


def escape(value: str) -> Html:
    r"""The one way of text into the page. Characters that act instead of being seen come out as `\x1b`, `\u202e`."""
    if isinstance(value, Html):
        return value
    seen = _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", printable(value))
    return Html(html.escape(seen, quote=True))


def tag(name: str, /, *children: str, **attributes: str | int | None) -> Html:
    """An element. Children that are no `Html` are escaped, as attributes are; attributes that are None are left out.

    `class_` is class, other underscores are hyphens. The form is valid as XML too.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Parts one after another, escaped where they are no HTML."""
    return Html(escape(between).join(escape(part) for part in parts))


def words(text: Text) -> Html:
    """A rich text with its styles as classes."""
    styles = [_classes(str(text.style)) for _ in text.plain]
    for span in text.spans:
        for place in range(max(0, span.start), min(span.end, len(styles))):
            styles[place] = styles[place] | _classes(str(span.style))
    parts: list[str] = []
    for classes, run in groupby(zip(styles, text.plain), key=lambda pair: pair[0]):
        part = "".join(character for _, character in run)
        parts.append(tag("span", part, class_=" ".join(sorted(classes))) if classes else part)
    return join(parts)


def _classes(style: str) -> frozenset[str]:
    return frozenset(style.split()) & _STYLES


def coloured(text: str, style: str) -> Html:
    """A text in one of rich's styles."""
    return words(Text(text, style=style))


def code(value: str) -> Html:
    """Something that is typed or spelled as it stands; empty for nothing."""
    return tag("code", clipped(value)) if value else Html()


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, label: str, numeric: Sequence[int] = (), class_: str = ""
) -> Html:
    """A table that scrolls sideways in its own box, by keyboard too; the first cell of each row is its heading.

    label: what it is, for screen readers. numeric: columns of numbers. class_: with `stack` the cells of a row stand
    one below the other on a phone, each with its heading. Empty without rows.
    """
    every = list(rows)
    if not every:
        return Html()
    stacked = "stack" in class_.split()
    head = tag("tr", *(tag("th", h, scope="col", class_=_number(i, numeric)) for i, h in enumerate(headings)))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_=_number(0, numeric)),
            *(
                tag("td", cell, class_=_number(i, numeric), data_label=headings[i] or None if stacked else None)
                for i, cell in enumerate(row[1:], 1)
            ),
        )
        for row in every
    ]
    return scrolled(tag("table", tag("thead", head), tag("tbody", *body), class_=class_ or None), label)


def scrolled(content: Html, label: str, class_: str = "") -> Html:
    """A box that scrolls sideways; the keyboard reaches it."""
    return tag("div", content, class_=f"scroll {class_}".strip(), tabindex=0, role="region", aria_label=label)


def _number(column: int, numeric: Sequence[int]) -> str | None:
    return "number" if column in numeric else None


def facts(rows: Iterable[tuple[str, str]]) -> Html:
    """Label and text, one pair a line; empty without rows."""
    pairs = [tag("div", tag("dt", label), tag("dd", text)) for label, text in rows]
    return tag("dl", *pairs) if pairs else Html()


def bullets(lines: Iterable[str], class_: str | None = None) -> Html:
    """A list; empty without lines."""
    entries = [tag("li", line) for line in lines]
    return tag("ul", *entries, class_=class_) if entries else Html()


def fold(summary: str, *body: str) -> Html:
    """A part that opens when its summary is clicked."""
    return tag("details", tag("summary", summary), *body)


def copyable(value: str, what: str) -> Html:
    """Code with a button that copies it. what: "the fix", for the button's name."""
    shown = clipped(value.strip("\n"), _LONGEST_CODE)
    return tag(
        "div",
        tag("pre", tag("code", shown), tabindex=0, role="region", aria_label=what),
        tag("button", "Copy", type="button", class_="copy", aria_label=f"Copy {what}"),
        class_="copyable",
    )
