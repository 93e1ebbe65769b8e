"""Plots: SVG that parses, says in words what it shows, has axes, lines and names, and can be read on both pages."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from attncheck.errors import UsageError
from attncheck.render import plots
from attncheck.report import Report
from attncheck.semantics.timing import Bench
from tests import sample_benches
from tests.sample_benches import case, timed

pytest.importorskip("matplotlib")
SVG = "{http://www.w3.org/2000/svg}"
STANDARD = "kernel-prefill-forward-causal-d128.svg"


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return plots.plots(sample_benches.standard_report())


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter(f"{SVG}text")]


def lines(svg: str) -> list[str]:
    found = [node.get("id", "") for node in ET.fromstring(svg).iter(f"{SVG}g")]
    return [name.removeprefix("line-") for name in found if name.startswith("line-")]


def of(*cells: object) -> Report:
    return replace(sample_benches.swa_report(), bench=Bench(tuple(cells)))  # type: ignore[arg-type]


def test_one_plot_a_table(drawn: dict[str, str]) -> None:
    assert list(drawn) == [STANDARD, "kernel-decode-forward-causal-d128.svg"]


def test_axes_are_labelled_with_units_and_lengths(drawn: dict[str, str]) -> None:
    found = texts(drawn[STANDARD])
    assert found.count("length (tokens)") == 2
    assert "time (median, band from p20 to p80)" in found
    assert "peak memory above the inputs" in found
    assert {"1k", "4k", "8k", "16k"} <= set(found)
    assert {"1 ms", "10 ms", "64 MiB", "1 GiB"} <= set(found)


def test_every_implementation_has_a_line_and_its_name_in_both_panels(drawn: dict[str, str]) -> None:
    names = [*sample_benches.TIMES, "sdpa-math"]
    assert sorted(lines(drawn[STANDARD])) == sorted(2 * names)
    assert all(texts(drawn[STANDARD]).count(name) == 2 for name in names)


def test_the_title_says_what_was_timed_on_what(drawn: dict[str, str]) -> None:
    text = " ".join(texts(drawn[STANDARD]))
    assert "Kernel: prefill, forward, causal" in text
    assert "16 heads, head_dim 128, bfloat16, batch x length = 16k tokens, NVIDIA H100 80GB HBM3" in text


def test_who_cannot_see_it_is_told(drawn: dict[str, str]) -> None:
    root = ET.fromstring(drawn[STANDARD])
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img"
    assert title is not None
    assert title.text == "Kernel: prefill, forward, causal"
    assert description is not None
    assert "flash-attn-4 1.68 ms at 16k; sdpa-cudnn 1.95 ms at 16k" in str(description.text)


def test_what_is_wrong_is_named_so() -> None:
    (svg,) = plots.plots(sample_benches.swa_report()).values()
    assert "flash-attn-4 (wrong)" in texts(svg)


def test_the_same_bench_gives_the_same_file(drawn: dict[str, str]) -> None:
    assert plots.plots(sample_benches.standard_report()) == drawn


def test_an_implementation_looks_the_same_in_every_plot(drawn: dict[str, str]) -> None:
    def colour(svg: str) -> str:
        (place,) = re.findall(r'id="line-flash-attn-2">\s*<path[^>]*stroke: (#\w+)', svg)[:1]
        return str(place)

    assert colour(drawn[STANDARD]) == colour(drawn["kernel-decode-forward-causal-d128.svg"])


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("page", [0, 1])
def test_text_can_be_read_on_a_light_and_on_a_dark_page(page: int) -> None:
    """WCAG asks for 4.5 between text and page; the names of the lines have the colours of the lines."""
    back = luminance(plots._PAGE[page])
    for colours in (*plots._COLOURS, plots._INK):
        high, low = sorted((luminance(colours[page]), back), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, colours


def test_a_dark_page_gets_other_colours(drawn: dict[str, str]) -> None:
    style = ET.fromstring(drawn[STANDARD]).find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in str(style.text)
    used = set(re.findall(r"(?:fill|stroke): (#\w+)", re.sub(r"<style>.*?</style>", "", drawn[STANDARD], flags=re.S)))
    told = set(re.findall(r"\*='(?:fill|stroke): (#\w+)'", str(style.text)))
    assert used <= told


def test_names_do_not_cover_each_other() -> None:
    cells = [timed(case(f"kernel-{n}", tokens), 1.0 + n / 1000) for n in range(8) for tokens in (1024, 4096)]
    (svg,) = plots.plots(of(*cells)).values()
    places = []
    for node in ET.fromstring(svg).iter(f"{SVG}text"):
        if "".join(node.itertext()).startswith("kernel-"):
            places.append((float(node.get("x", "")), float(node.get("y", ""))))
    assert len(places) == 16
    for number, (x, y) in enumerate(places):
        for other_x, other_y in places[number + 1 :]:
            assert abs(x - other_x) > 100 or abs(y - other_y) > 9


def test_no_plot_of_a_single_length_and_none_without_a_bench() -> None:
    assert plots.plots(of(timed(case("eager", 1024), 1.0))) == {}
    assert plots.plots(replace(sample_benches.swa_report(), bench=None)) == {}


def test_without_memory_there_is_one_panel() -> None:
    cells = [timed(case("eager", tokens), 1.0, peak_memory=None) for tokens in (1024, 4096)]
    (svg,) = plots.plots(of(*cells)).values()
    assert texts(svg).count("length (tokens)") == 1


def test_tables_that_differ_in_what_no_name_says_get_files_of_their_own() -> None:
    cells = [timed(case("eager", n, softcap=cap), 1.0) for cap in (None, 50.0) for n in (1024, 4096)]
    assert list(plots.plots(of(*cells))) == [STANDARD, STANDARD.replace(".svg", "-2.svg")]


def test_a_missing_matplotlib_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs matplotlib") as caught:
        plots.check()
    assert caught.value.hint == "pip install 'attncheck[plots]'"
