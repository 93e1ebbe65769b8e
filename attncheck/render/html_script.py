"""The script of the HTML report: copy buttons, and the (query, key) under the pointer or the arrow keys.

The page reads without it. It holds neither `<` nor `&`, so that the page is well-formed XML too.
"""

from __future__ import annotations

SCRIPT = """
'use strict';
(function () {
  var page = document.documentElement, said = document.getElementById('said');
  page.classList.add('scripted');

  function older(text) {
    var area = document.createElement('textarea'), before = document.activeElement, done = false;
    area.value = text;
    area.setAttribute('readonly', '');
    area.className = 'skip';
    document.body.appendChild(area);
    area.select();
    try { done = document.execCommand('copy'); } catch (error) { done = false; }
    area.remove();
    if (before) { before.focus(); }
    return done;
  }

  function tell(button, done) {
    button.textContent = done ? 'Copied' : 'Not copied';
    said.textContent = done ? 'Copied.' : 'The browser did not allow copying; select the text instead.';
    setTimeout(function () { button.textContent = 'Copy'; said.textContent = ''; }, 2500);
  }

  document.querySelectorAll('button.copy').forEach(function (button) {
    button.addEventListener('click', function () {
      var text = button.parentNode.querySelector('code').textContent;
      if (!navigator.clipboard) { tell(button, older(text)); return; }
      navigator.clipboard.writeText(text).then(
        function () { tell(button, true); },
        function () { tell(button, older(text)); });
    });
  });

  function inside(svg, kind, x, y) {
    var path = svg.querySelector('.' + kind + '-cells'), point = svg.createSVGPoint();
    if (!path) { return false; }
    point.x = x + 0.5;
    point.y = y + 0.5;
    return path.isPointInFill(point);
  }

  function state(svg, x, y) {
    if (inside(svg, 'leaked', x, y)) { return 'seen, not declared (leaked)'; }
    if (inside(svg, 'missed', x, y)) { return 'not seen, but declared (missed)'; }
    return inside(svg, 'kept', x, y) ? 'seen' : 'not seen';
  }

  document.querySelectorAll('.masks').forEach(function (figure) {
    var panels = figure.querySelector('.panels'), output = figure.querySelector('.cell'), rest = output.textContent;
    var drawn = Array.from(figure.querySelectorAll('.panel')), data = figure.dataset;
    var width = Number(data.keys), height = Number(data.queries), at = null;

    function show(x, y) {
      at = [Math.min(Math.max(x, 0), width - 1), Math.min(Math.max(y, 0), height - 1)];
      var states = drawn.map(function (panel) {
        var svg = panel.querySelector('svg'), cursor = svg.querySelector('.cursor');
        cursor.setAttribute('x', at[0]);
        cursor.setAttribute('y', at[1]);
        cursor.style.visibility = 'visible';
        return panel.dataset.name + ': ' + state(svg, at[0], at[1]);
      });
      output.textContent = '(query ' + (Number(data.query) + at[1]) + ', key ' + (Number(data.key) + at[0]) + ')  '
        + states.join('; ');
    }

    function hide() {
      at = null;
      output.textContent = rest;
      drawn.forEach(function (panel) { panel.querySelector('.cursor').style.visibility = 'hidden'; });
    }

    drawn.forEach(function (panel) {
      var svg = panel.querySelector('svg');
      function follow(event) {
        var box = svg.getBoundingClientRect();
        show(Math.floor((event.clientX - box.left) / box.width * width),
          Math.floor((event.clientY - box.top) / box.height * height));
      }
      svg.addEventListener('pointermove', follow);
      svg.addEventListener('pointerdown', follow);
    });
    panels.addEventListener('pointerleave', function (event) {
      if (event.pointerType === 'mouse') { hide(); }
    });
    panels.addEventListener('focus', function () {
      if (!at) { show(Number(data.x), Number(data.y)); }
    });
    panels.addEventListener('blur', hide);
    panels.addEventListener('keydown', function (event) {
      var step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) { return; }
      event.preventDefault();
      show((at ? at[0] : 0) + step[0], (at ? at[1] : 0) + step[1]);
    });
  });

  function unfold() {
    var target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (target) { if (target.tagName === 'DETAILS') { target.open = true; } }
  }
  window.addEventListener('hashchange', unfold);
  unfold();
})();
"""
