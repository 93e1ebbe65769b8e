"""Style and script of the survey's page, on top of those of every report."""

from __future__ import annotations

from attncheck.render.html_style import STYLE as COMMON

STYLE = (
    COMMON
    + """
header,main,footer{max-width:none}
.support{max-height:85vh;overflow:auto;background:none;border:1px solid var(--line)}
.support table{border-collapse:separate;border-spacing:0;font-size:.85rem}
.support th,.support td{padding:.1rem .3rem;text-align:center;border-bottom:1px solid var(--line)}
.support thead th{position:sticky;background:var(--page);z-index:2}
.support thead tr:first-child th{top:0;height:1.8rem}
.support thead tr:last-child th{top:1.8rem;vertical-align:bottom}
.support thead .scenario{writing-mode:vertical-rl;transform:rotate(180deg);font-weight:400;padding:.4rem .1rem}
.support tbody th,.support .corner{position:sticky;left:0;background:var(--page);text-align:left;z-index:1;
font-weight:400}
.support .corner{z-index:3!important}
.support .first{border-left:2px solid var(--line)}
.support .group{display:inline-block;position:sticky;left:18rem}
.support td a{text-decoration:none;display:block}
.support .set{padding-left:1.2rem}
td.m{color:var(--green)}td.p{color:var(--cyan)}td.x,td.b{color:var(--red);font-weight:700}
td.x{background:var(--card)}td.w{color:var(--yellow);font-weight:700}td.n{color:var(--dim)}td.u{color:var(--magenta)}
td.i{color:var(--cyan)}
.key{list-style:none;padding:0;columns:20rem auto}
.key li{break-inside:avoid}
.key b{display:inline-block;min-width:1.5rem}
.tools{display:none;gap:1rem;flex-wrap:wrap;align-items:center;margin:.6rem 0}
.scripted .tools{display:flex}
.tools input[type=search]{font:inherit;padding:.4rem .6rem;min-width:16rem;max-width:100%;color:var(--ink);
background:var(--page);border:1px solid var(--line);border-radius:6px}
@media (max-width:40rem){
.support .group{left:10rem}
.support tbody th{white-space:normal;overflow-wrap:anywhere;min-width:7rem;max-width:9rem}
.support .set{padding-left:.8rem}
}
.row{border-top:1px solid var(--line);margin:0;padding:.2rem 0}
.row summary{font-weight:600}
.row .finding{margin:.5rem 0}
.row p{margin:.2rem 0}
"""
)

#: Filters rows by words in the heading and by the class `wrong`; opens the details that a link points into.
SCRIPT = """
'use strict';
(function () {
  var page = document.documentElement, box = document.getElementById('find'), only = document.getElementById('only');
  var count = document.getElementById('count');
  var rows = Array.from(document.querySelectorAll('.support tbody tr'));
  page.classList.add('scripted');

  function sift() {
    var wanted = box.value.trim().toLowerCase(), shown = 0;
    rows.forEach(function (row) {
      var right = row.firstChild.textContent.toLowerCase().indexOf(wanted) !== -1;
      if (only.checked) { right = right ? row.classList.contains('wrong') : false; }
      row.style.display = right ? '' : 'none';
      shown += right ? 1 : 0;
    });
    count.textContent = shown + ' of ' + rows.length + ' rows';
  }
  box.addEventListener('input', sift);
  only.addEventListener('change', sift);
  sift();

  function unfold() {
    var target = location.hash ? document.getElementById(location.hash.slice(1)) : null, at = target;
    while (at) {
      if (at.tagName === 'DETAILS') { at.open = true; }
      at = at.parentElement;
    }
    if (target) { target.scrollIntoView(); }
  }
  window.addEventListener('hashchange', unfold);
  unfold();
})();
"""
