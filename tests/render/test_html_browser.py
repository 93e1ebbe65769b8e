"""The HTML report in a real browser: no complaint, buttons, pointer and keys work, no page scrolls sideways."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from tests import browser, sample_reports
from tests.html_pages import PAGES, evil_report, page

#: Run in the page after its own script: everything a reader may do, and what came of it as text in the title.
DRIVER = """
(async function () {
  var told = [], written = [], wait = function (ms) { return new Promise(function (r) { setTimeout(r, ms); }); };
  function write(text) { written.push(text); return Promise.resolve(); }
  Object.defineProperty(navigator, 'clipboard', {value: {writeText: write}});
  var buttons = Array.from(document.querySelectorAll('button.copy'));
  for (var button of buttons) { button.click(); await wait(1); }
  var codes = buttons.map(function (b) { return b.parentNode.querySelector('code').textContent; });
  told.push('copied ' + (JSON.stringify(written) === JSON.stringify(codes)) + ' ' + written.length);
  told.push('button ' + buttons[0].textContent);
  var figure = document.querySelector('.masks'), svg = figure.querySelectorAll('.panel svg')[1];
  var output = figure.querySelector('.cell'), box = svg.getBoundingClientRect();
  function point(x, y) {
    svg.dispatchEvent(new PointerEvent('pointermove', {bubbles: true,
      clientX: box.left + (x + 0.5) * box.width / 24, clientY: box.top + (y + 0.5) * box.height / 24}));
    return output.textContent;
  }
  told.push(point(0, 8));
  told.push(point(8, 8));
  told.push(point(20, 8));
  figure.querySelector('.panels').focus();
  ['ArrowLeft', 'ArrowDown', 'Home'].forEach(function (key) {
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: key, bubbles: true, cancelable: true}));
  });
  told.push(output.textContent);
  document.activeElement.blur();
  told.push(output.textContent.slice(0, 15));
  document.title = told.join(' | ');
})();
"""


@browser.needs_browser
@pytest.mark.parametrize("name", ["faulty", "h100", "bench", "watch", "settings", "without", "evil"])
def test_a_browser_has_nothing_to_complain_about(name: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(evil_report() if name == "evil" else PAGES[name]()), encoding="utf-8")
    dom, console = browser.run(file, tmp_path, "--dump-dom")
    assert console == []
    assert '<html lang="en" class="scripted">' in dom  # the policy let the page's own script run
    assert dom.count("<script") == 1
    assert 'id="said"' in dom


@browser.needs_browser
def test_buttons_pointer_and_keys_work_in_a_browser(tmp_path: Path) -> None:
    file = tmp_path / "driven.html"
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page(sample_reports.faulty_report()))  # it would forbid the driver
    file.write_text(text.replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8")
    dom, console = browser.run(file, tmp_path, "--dump-dom", "--virtual-time-budget=2000")
    assert console == []
    told = str(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]).split(" | ")  # type: ignore[index]
    assert re.fullmatch(r"copied true \d+", told[0])
    assert told[1:] == [
        "button Copied",
        "(query 8, key 0)  declared: not seen; effective: seen, not declared (leaked)",
        "(query 8, key 8)  declared: seen; effective: seen",
        "(query 8, key 20)  declared: not seen; effective: not seen",
        "(query 9, key 19)  declared: not seen; effective: not seen",
        "Rows are querie",
    ]


@browser.needs_browser
@pytest.mark.parametrize("name", ["faulty", "h100", "incident", "changed", "watch", "settings", "without", "evil"])
def test_no_page_scrolls_sideways(name: str, tmp_path: Path) -> None:
    """Frames as wide as phones and screens, since a headless window is never narrower than 500 pixels."""
    text = page(evil_report() if name == "evil" else PAGES[name]())
    text = text.replace("<details>", '<details open="open">')
    widths = (320, 400, 700, 1400)
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{html.escape(text)}"></iframe>' for w in widths)
    script = """<script>addEventListener('load', function () {
      document.title = Array.from(frames).map(function (f) {
        return f.innerWidth + ':' + f.document.documentElement.scrollWidth; }).join(' '); });</script>"""
    style = "<style>iframe{border:0;display:block}</style>"
    file = tmp_path / "frames.html"
    file.write_text(f"<!DOCTYPE html><title></title>{style}{script}{frames}", encoding="utf-8")
    dom, _ = browser.run(file, tmp_path, "--dump-dom", width=1600)
    assert f"<title>{' '.join(f'{w}:{w}' for w in widths)}</title>" in dom


@browser.needs_browser
@pytest.mark.parametrize("name", ["watch", "settings", "h100"])
def test_rows_stand_one_below_the_other_on_a_phone_and_side_by_side_on_a_screen(name: str, tmp_path: Path) -> None:
    """Of tables with sentences in them, no part is out of sight in either."""
    text = page(PAGES[name]())
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{html.escape(text)}"></iframe>' for w in (400, 1400))
    script = """<script>addEventListener('load', function () {
      document.title = Array.from(frames).map(function (f) {
        var table = f.document.querySelector('table.stack'), row = table.querySelector('tbody tr');
        var box = table.parentNode, next = row.children[1].getBoundingClientRect();
        return [box.scrollWidth <= box.clientWidth, next.top > row.getBoundingClientRect().top + 5].join('-');
      }).join(' '); });</script>"""
    file = tmp_path / "frames.html"
    file.write_text(f"<!DOCTYPE html><title></title>{script}{frames}", encoding="utf-8")
    dom, _ = browser.run(file, tmp_path, "--dump-dom", width=1600)
    assert "<title>true-true true-false</title>" in dom


@browser.needs_browser
def test_the_policy_stops_a_script_that_got_into_the_page(tmp_path: Path) -> None:
    file = tmp_path / "broken.html"
    text = page(sample_reports.faulty_report())
    file.write_text(text.replace("</body>", "<script>document.title = 'taken'</script></body>"), encoding="utf-8")
    dom, console = browser.run(file, tmp_path, "--dump-dom")
    assert "<title>taken</title>" not in dom
    assert any("Content Security Policy" in line for line in console)


@browser.needs_browser
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_browser_paints_the_page_in_both_schemes(scheme: int, tmp_path: Path) -> None:
    file, picture = tmp_path / "report.html", tmp_path / "page.png"
    file.write_text(page(sample_reports.faulty_report()), encoding="utf-8")
    _, console = browser.run(
        file, tmp_path, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}", width=400
    )
    assert console == []
    assert picture.stat().st_size > 10_000
