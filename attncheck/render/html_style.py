"""The style sheet of the HTML report: light and dark, from 320 px on; text has a contrast of 4.5 or more."""

from __future__ import annotations

#: Variables of the light page, then those of the dark one. `tests/render/test_html.py` computes their contrasts.
LIGHT = {
    "page": "#ffffff",
    "card": "#f6f8fa",
    "line": "#d0d7de",
    "ink": "#1f2328",
    "dim": "#59636e",
    "link": "#0757b8",
    "red": "#b3161f",
    "green": "#116329",
    "yellow": "#7d4e00",
    "cyan": "#0a5c80",
    "magenta": "#7b2fb5",
    "masked": "#dde2e8",
    "kept": "#3b7cc0",
    "leaked": "#d1242f",
    "missed": "#ffc94a",
    "mark": "#111111",
    "shade": "#c4ccd4",
}
DARK = {
    "page": "#0d1117",
    "card": "#161b22",
    "line": "#3d444d",
    "ink": "#e6edf3",
    "dim": "#9aa4af",
    "link": "#79b8ff",
    "red": "#ff8e87",
    "green": "#56d364",
    "yellow": "#e3b341",
    "cyan": "#76d0ee",
    "magenta": "#d2a8ff",
    "masked": "#2a313a",
    "kept": "#3f82c8",
    "leaked": "#ff6a61",
    "missed": "#ffd75f",
    "mark": "#ffffff",
    "shade": "#3a424c",
}

_RULES = """
*{box-sizing:border-box}
html{--ground:var(--page);color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header,main,footer{max-width:72rem;margin:0 auto;padding:0 1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.3;margin:1.25rem 0 .5rem}
h2{font-size:1.2rem;margin:2.25rem 0 .75rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
summary h3{display:inline}
h4{font-size:.875rem;margin:1.1rem 0 .3rem;color:var(--dim)}
p{margin:.4rem 0}
a{color:var(--link)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.875em}
ul{margin:.4rem 0;padding-left:1.2rem}
li{margin:.15rem 0}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-999rem}
.skip:focus{left:1rem;top:.5rem;background:var(--page);padding:.25rem .5rem}
.bold{font-weight:600}.dim{color:var(--dim)}.red{color:var(--red)}.green{color:var(--green)}
.yellow{color:var(--yellow)}.cyan{color:var(--cyan)}.magenta{color:var(--magenta)}
.answer{list-style:none;padding:0;margin:.5rem 0;font-size:1.05rem}
.counts{display:flex;flex-wrap:wrap;gap:.5rem;list-style:none;padding:0;margin:.75rem 0}
.counts li{border:1px solid var(--line);border-radius:1rem;padding:.1rem .75rem;margin:0;background:var(--card)}
nav ul{display:flex;flex-wrap:wrap;gap:.1rem 1rem;list-style:none;padding:0;margin:.75rem 0 0}
nav a{display:inline-block;padding:.25rem 0}
dl{margin:.5rem 0}
dl div{display:grid;grid-template-columns:minmax(6rem,11rem) minmax(0,1fr);gap:.1rem 1rem;margin:.2rem 0}
dt{color:var(--dim)}
dd{margin:0}
.scroll{overflow-x:auto;margin:.6rem 0;overflow-wrap:normal;
background:linear-gradient(to right,var(--ground) 50%,transparent) left/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--ground) 50%,transparent) right/2.5rem 100% no-repeat local,
linear-gradient(to right,var(--shade),transparent) left/1rem 100% no-repeat scroll,
linear-gradient(to left,var(--shade),transparent) right/1rem 100% no-repeat scroll}
table{border-collapse:collapse;font-size:.9rem}
th,td{text-align:left;vertical-align:top;white-space:nowrap;padding:.3rem .9rem .3rem 0;
border-bottom:1px solid var(--line)}
td:last-child{white-space:normal}
thead th{color:var(--dim);font-weight:600;vertical-align:bottom}
tbody th{font-weight:600}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap!important}
.matrix th,.matrix td{padding:.3rem .75rem}
.matrix th:first-child{position:sticky;left:0;background:var(--page);padding-left:0;border-right:1px solid var(--line)}
td a{color:inherit}
.matrix .group th:first-child{border-right:0;color:var(--dim);font-weight:400;padding-top:.7rem}
.calls td{min-width:4rem}
.calls tbody th{min-width:15rem}
.wide td:last-child{min-width:16rem}
.wide td.number:last-child{min-width:0}
.stack td,.stack th{white-space:normal}
.stack tbody th{min-width:11rem}
.stack code{overflow-wrap:anywhere}
.stack ul{margin:0}
.bench td:last-child:not(.number){min-width:16rem}
.remark{display:block;color:var(--dim);font-size:.85rem;font-weight:400;white-space:normal}
details{margin:.6rem 0}
details[open]>summary .said{display:none}
summary{cursor:pointer;padding:.25rem 0}
.finding{background:var(--card);border:1px solid var(--line);border-left-width:4px;border-radius:6px;
padding:.6rem 1rem;margin:.9rem 0}
.finding.error{border-left-color:var(--red)}
.finding.warning{border-left-color:var(--yellow)}
.finding.note{border-left-color:var(--cyan)}
.finding .slug{font-weight:600}
.message{font-weight:600;margin:.6rem 0 .3rem;white-space:pre-line}
.message~.message{margin-top:1rem;padding-top:.8rem;border-top:1px solid var(--line)}
.places{list-style:none;padding:0;color:var(--dim);font-size:.9rem}
.copyable{display:flex;gap:.5rem;align-items:flex-start;margin:.4rem 0 .7rem}
.copyable pre{flex:1;min-width:0;max-height:26rem;margin:0;padding:.6rem .75rem;overflow:auto;background:var(--page);
border:1px solid var(--line);border-radius:6px;overflow-wrap:normal}
button.copy{display:none;font:inherit;font-size:.875rem;min-height:2.6rem;min-width:5.5rem;color:var(--ink);
background:var(--card);border:1px solid var(--line);border-radius:6px;cursor:pointer}
.scripted button.copy{display:block}
.masks{margin:1rem 0}
.panels{display:flex;flex-wrap:wrap;gap:.75rem 1.25rem;max-width:100%;outline-offset:4px}
.panel{flex:0 1 auto;min-width:0}
.panel svg{display:block;max-width:100%;height:auto;border:1px solid var(--line);touch-action:pan-y;cursor:crosshair}
.panel .title{font-size:.875rem;font-weight:600}
.masks figcaption,.masks .cell{font-size:.875rem}
.masks .cell{display:none;min-height:1.6rem;font-variant-numeric:tabular-nums}
.scripted .masks .cell{display:block}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1rem;list-style:none;padding:0;margin:.3rem 0;font-size:.875rem}
.legend svg{width:.9rem;height:.9rem;vertical-align:-.1rem;border:1px solid var(--line)}
.masked{fill:var(--masked)}.kept{fill:var(--kept)}
.leaked-ground{fill:var(--leaked)}.missed-ground{fill:var(--missed)}
.leaked-sign{stroke:#ffffff;stroke-width:.14;fill:none}.missed-sign{stroke:#111111;stroke-width:.16;fill:none}
.lines{stroke:var(--card);stroke-width:.08;fill:none}
.first,.cursor{fill:none;stroke:var(--mark);stroke-width:2.5px;vector-effect:non-scaling-stroke}
.cursor{stroke-width:2px;stroke-dasharray:3 2;visibility:hidden}
.defs{position:absolute;width:0;height:0}
.plot{max-width:100%;height:auto;display:block}
.plots{background:none}
footer{margin:2.5rem auto 2rem;padding-top:.5rem;color:var(--dim);font-size:.875rem}
@media (max-width:40rem){
.panels{gap:.75rem .6rem}
.panel{max-width:calc(50% - .3rem)}
.finding{padding:.5rem .7rem}
.matrix td,.matrix th{white-space:normal;padding:.3rem .45rem}
.matrix th:first-child{min-width:5.5rem}
.wide td:last-child{min-width:11rem}
.wide tbody th,.bench tbody th{white-space:normal}
.bench tbody th{min-width:5.5rem}
.bench td:last-child:not(.number){min-width:24rem}
.plots .plot{max-width:none}
.stack,.stack tbody,.stack tr,.stack th,.stack td{display:block}
.stack thead{display:none}
.stack tr{padding:.4rem 0;border-bottom:1px solid var(--line)}
.stack th,.stack td{border:0;padding:.1rem 0;min-width:0!important;text-align:left}
.stack th:empty,.stack td:empty{display:none}
.stack td[data-label]::before{content:attr(data-label) ": ";color:var(--dim)}
.unlabelled td[data-label]::before{content:none}
.copyable{flex-direction:column;align-items:stretch}
.copyable pre{white-space:pre-wrap;overflow-wrap:anywhere}
dl div{grid-template-columns:minmax(0,1fr);margin:.45rem 0}
}
@media (prefers-reduced-motion:no-preference){html{scroll-behavior:smooth}}
@media print{.finding{break-inside:avoid}button.copy{display:none!important}.copyable pre{max-height:none}}
"""


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())


STYLE = f":root{{{_variables(LIGHT)}}}\n@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}{_RULES}"
