// The page is whole without this script. It keeps the page up to date, draws charts, and shows a step's question in a
// dialog.
"use strict";
(() => {
  // Fragments: what differs is changed, and nothing else, so that the focus, what is open and what is scrolled stays.
  const key = (node) => node.nodeType === 1 ? node.dataset.key || node.id : "";
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
  function morph(from, to) {
    if (from.nodeType === 3) {
      if (from.data !== to.data) from.data = to.data;
      return;
    }
    for (const a of [...from.attributes]) {
      if (!to.hasAttribute(a.name) && !["open", "data-ago", "data-changed"].includes(a.name)) from.removeAttribute(a.name);
    }
    for (const a of to.attributes) {
      if (from.getAttribute(a.name) !== a.value) from.setAttribute(a.name, a.value);
    }
    if (!from.hasAttribute("data-keep")) morphChildren(from, to);
  }
  function morphChildren(from, to) {
    let at = from.firstChild;
    for (let next = to.firstChild; next;) {
      const after = next.nextSibling;
      let match = at;
      while (match && !alike(match, next)) match = match.nextSibling;
      if (match && (match === at || key(next))) {
        if (match !== at) from.insertBefore(match, at);
        else at = at.nextSibling;
        morph(match, next);
      } else {
        from.insertBefore(next, at);
      }
      next = after;
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }
  function replace(id, html) {
    const place = id === "asof" ? document.getElementById("asof") : document.querySelector(`[data-part="${id}"]`);
    if (!place) return;
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    morphChildren(place, fresh.content);
    if (id === "charts") draw();
    times(place);
  }

  // Times: the server gives moments, so that what is not news does not change.
  const span = (s) => s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 172800 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min` : `${Math.floor(s / 86400)} d`;
  function times(within) {
    for (const t of within.querySelectorAll("time[data-rel]")) {
      const s = Math.round((Date.now() - Date.parse(t.dateTime)) / 1000);
      t.dataset.ago = s >= 0 ? `${span(s)} ago` : `in ${span(-s)}`;
    }
  }
  times(document);
  setInterval(() => times(document), 5000);

  // Charts.
  const charts = new Map();
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function draw(again) {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const have = charts.get(place);
      if (have && have.drawn === place.dataset.chart && !again) continue;
      const data = JSON.parse(place.dataset.chart);
      if (have && !again) {
        have.plot.setData(data);
        have.drawn = place.dataset.chart;
        continue;
      }
      if (have) have.plot.destroy();
      const unit = place.dataset.unit;
      const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
      const lines = ["--one", "--two", "--three"];
      const plot = new uPlot({
        width: place.clientWidth || 340, height: 190, cursor: { drag: { x: false, y: false } }, legend: { live: false },
        scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
        axes: [{ ...axis, space: 90, values: (_, all) => all.map((ts) => new Date(ts * 1000).toISOString().slice(11, 19)) }, { ...axis, size: 58, values: (_, all) => all.map((v) => v + (unit ? " " + unit : "")) }],
        series: [{}, ...JSON.parse(place.dataset.names).map((label, i) => ({
          label, stroke: color(lines[i]), width: 2, dash: label === "limit" ? [6, 4] : undefined, spanGaps: true, points: { show: data[0].length < 3 },
        }))],
      }, data, place);
      charts.set(place, { plot, drawn: place.dataset.chart });
    }
  }
  draw();
  addEventListener("resize", () => { for (const [place, c] of charts) c.plot.setSize({ width: place.clientWidth, height: 190 }); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));

  // Buttons are off while the state database does not answer, or this page does not hear of it.
  function off(why) {
    for (const b of document.querySelectorAll("[data-act]")) {
      if (why) b.setAttribute("aria-disabled", "true"); else b.removeAttribute("aria-disabled");
    }
    for (const text of document.querySelectorAll("[data-act-off]")) {
      const says = why || text.dataset.actOff;
      if (text.textContent !== says) text.textContent = says;
    }
  }
  const live = document.body.dataset.live;
  if (live) {
    const events = new EventSource(live);
    let heard = "";
    events.onmessage = (e) => { const part = JSON.parse(e.data); replace(part.id, part.html); };
    events.addEventListener("state", (e) => { heard = e.data; off(heard === "down" ? "Buttons are off: the state database does not answer." : ""); });
    let shown = "";
    events.onerror = () => {
      off("Buttons are off: migrator serve does not answer.");
      const place = document.getElementById("asof");
      if (!shown) {
        shown = new Date().toISOString().slice(11, 19);
        const p = document.createElement("p");
        p.className = "down";
        p.textContent = `as of ${shown} UTC, migrator serve does not answer`;
        place.replaceChildren(p);
      }
    };
    events.onopen = () => { if (shown) { shown = ""; document.getElementById("asof").replaceChildren(); } };
  }

  // A step's question, in a dialog; without this script it is a page of its own.
  const dialog = document.getElementById("dialog");
  async function show(response) {
    const to = new URL(response.url);
    if (response.redirected && !to.pathname.includes("/do/")) { location.assign(to); return; }
    dialog.innerHTML = await response.text();
    times(dialog);
    if (!dialog.open) dialog.showModal();
    const first = dialog.querySelector("[autofocus]") || dialog.querySelector("input, select, button, a");
    if (first) first.focus();
    const watch = dialog.querySelector("[data-watch]");
    if (watch) follow(watch.dataset.watch);
  }
  async function follow(url) {
    await new Promise((done) => setTimeout(done, 500));
    if (!dialog.open) return;
    try {
      const response = await fetch(url, { headers: { "X-Fragment": "1" } });
      const fresh = document.createElement("template");
      fresh.innerHTML = await response.text();
      morphChildren(dialog, fresh.content);
      times(dialog);
    } catch {
      // The next try may reach it.
    }
    const watch = dialog.querySelector("[data-watch]");
    if (watch) follow(watch.dataset.watch);
  }
  document.addEventListener("click", async (e) => {
    const link = e.target.closest("a[data-act]");
    if (link && link.getAttribute("aria-disabled") === "true") { e.preventDefault(); return; }
    if (e.target.closest("[data-close]")) { e.preventDefault(); dialog.close(); return; }
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
    e.preventDefault();
    try { await show(await fetch(link.href, { headers: { "X-Fragment": "1" } })); } catch { location.assign(link.href); }
  });
  document.addEventListener("submit", async (e) => {
    if (!dialog.contains(e.target)) return;
    e.preventDefault();
    const form = e.target, button = e.submitter;
    if (button) button.disabled = true;
    try {
      await show(await fetch(form.action, { method: "POST", headers: { "X-Fragment": "1" }, body: new URLSearchParams(new FormData(form)) }));
    } catch {
      if (button) button.disabled = false;
      const p = dialog.querySelector("[data-trouble]");
      if (p) p.textContent = "migrator serve does not answer: the step may have been taken; see the history.";
    }
  });
})();
