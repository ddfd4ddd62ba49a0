// The explorer: an expression becomes a graph or a table, with what it cost.

import { $, call, cell, element, header, headers, seriesName, short } from "./common.js";
import { Completion } from "./complete.js";
import { Plot } from "./plot.js";

const RANGES = [["5m", 300], ["15m", 900], ["30m", 1800], ["1h", 3600], ["3h", 10800], ["6h", 21600], ["12h", 43200], ["1d", 86400], ["2d", 172800], ["1w", 604800], ["2w", 1209600], ["30d", 2592000], ["90d", 7776000], ["1y", 31536000]];
const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };
const MOST_DRAWN = 200, MOST_ROWS = 2000;

header(() => run());
for (const [text, seconds] of RANGES) $("range").append(new Option(text, seconds));
const plot = new Plot($("plot"), $("legend"), zoom);
const completion = new Completion($("expression"), $("options"));
let tab = "graph", running = null, rows = [], sorted = { column: null, down: false }, custom = null;

function seconds(text) {
  if (/^[0-9.]+$/.test(text)) return +text;
  let sum = 0, rest = text.trim();
  for (const [, n, unit] of rest.matchAll(/([0-9.]+)(ms|s|m|h|d|w|y)/g)) sum += n * UNITS[unit];
  return sum || NaN;
}
const localText = t => { const d = new Date(t * 1000 - new Date(t * 1000).getTimezoneOffset() * 60000); return d.toISOString().slice(0, 19); };
const span = () => custom ?? +$("range").value;
const until = () => $("until").value ? new Date($("until").value).getTime() / 1000 : Date.now() / 1000;

// The address holds the question, so that it can be sent to somebody.
function remember() {
  const state = { q: $("expression").value, t: tab, r: span(), e: $("until").value, s: $("step").value, k: $("stacked").checked ? 1 : "" };
  const kept = Object.entries(state).filter(([, v]) => v !== "");
  history.replaceState(null, "", "#" + new URLSearchParams(kept));
}
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  $("expression").value = state.get("q") ?? "";
  choose(state.get("t") === "table" ? "table" : "graph");
  setSpan(+(state.get("r") || 3600));
  $("until").value = state.get("e") || ""; $("step").value = state.get("s") || ""; $("stacked").checked = state.get("k") === "1";
  plot.stacked = $("stacked").checked;
}
function setSpan(s) {
  const known = RANGES.some(([, seconds]) => seconds === s);
  $("range").querySelector("[data-custom]")?.remove();
  custom = known ? null : s;
  if (!known) { const o = new Option(s >= 3600 ? (s / 3600).toFixed(1) + "h" : s >= 60 ? (s / 60).toFixed(1) + "m" : s.toFixed(0) + "s", s); o.dataset.custom = "1"; $("range").append(o); }
  $("range").value = s;
}
function choose(which) {
  tab = which;
  for (const name of ["graph", "table"]) { $(name).hidden = name !== which; $("tab-" + name).setAttribute("aria-selected", String(name === which)); }
}
function zoom(from, to) { setSpan(Math.max(10, Math.round(to - from))); $("until").value = localText(to); run(); }
function move(share) { $("until").value = localText(until() + span() * share); if (until() > Date.now() / 1000) $("until").value = ""; run(); }

function question() {
  const query = $("expression").value.trim(), end = until();
  if (tab === "table") return { path: "/api/v1/query", parameters: { query, time: end.toFixed(3), stats: "all", limit: MOST_ROWS + 1 } };
  const typed = $("step").value.trim(), width = Math.max(300, $("plot").clientWidth);
  const step = typed ? seconds(typed) : Math.max(1, Math.ceil(span() / (width / 2)));
  if (!(step > 0)) throw { type: "bad_data", message: `step: not a duration: "${typed}"; write it as 30s, 5m or 1h` };
  const aligned = Math.floor(end / step) * step;
  return { path: "/api/v1/query_range", parameters: { query, start: aligned - Math.floor(span() / step) * step, end: aligned, step, stats: "all" } };
}

async function run() {
  const query = $("expression").value.trim();
  remember();
  if (!query) return;
  running?.abort();
  running = new AbortController();
  const began = performance.now(), signal = running.signal;
  $("run").textContent = "…";
  try {
    const asked = question();
    const answer = await call(asked.path, asked.parameters, { method: "POST", signal });
    wrong(null);
    notes(answer);
    if (tab === "graph") graph(answer.data, asked.parameters); else table(answer.data);
    cost(answer, performance.now() - began, asked.parameters);
    keep(query);
  } catch (error) {
    if (error?.name === "AbortError") return;
    wrong(error, query);
  } finally { if (running?.signal === signal) $("run").textContent = "Run"; }
}

// An error with a position is shown with a mark below the place.
function wrong(error, query) {
  $("wrong").hidden = !error;
  if (!error) return;
  const message = error.message ?? String(error), place = /(?:^|\D)(\d+):(\d+): parse error/.exec(message);
  let text = `${error.type ?? "error"}: ${message}`;
  if (place) {
    const line = query.split("\n")[place[1] - 1];
    if (line !== undefined) text += `\n\n  ${line}\n  ${" ".repeat(Math.max(0, place[2] - 1))}^`;
  }
  $("wrong").textContent = text;
}
function notes(answer) {
  const lines = [...(answer.warnings || []).map(t => ["warn", "warning: " + t]), ...(answer.infos || []).map(t => ["soft", "info: " + t])];
  $("notes").replaceChildren(...lines.map(([kind, text]) => element("div", text, kind)));
}

function graph(data, asked) {
  const all = data.resultType === "matrix" ? data.result : [];
  // A histogram is drawn by how many observations it holds.
  const lines = all.slice(0, MOST_DRAWN).map(s => s.values ? s : { metric: s.metric, name: seriesName(s.metric) + " (histogram: count)", values: (s.histograms || []).map(([t, h]) => [t, h.count]) });
  plot.show(lines, asked.start, asked.end, asked.step);
  if (all.length > MOST_DRAWN) $("notes").append(element("div", `${all.length} series; the first ${MOST_DRAWN} are drawn`, "soft"));
}

function table(data) {
  const list = data.resultType === "vector" ? data.result : data.resultType === "matrix" ? data.result : [{ metric: {}, value: data.result }];
  rows = list.map(s => ({
    metric: s.metric,
    value: s.value ? s.value[1] : s.values ? s.values.map(([t, v]) => `${v} @${t}`).join("\n") : s.histogram ? `count ${s.histogram[1].count}, sum ${s.histogram[1].sum}` : `${(s.histograms || []).length} histograms`,
    histogram: s.histogram?.[1],
  }));
  showRows();
}
function columns() {
  const names = new Map();
  for (const r of rows) for (const k of Object.keys(r.metric)) names.set(k, (names.get(k) || 0) + 1);
  const list = [...names.keys()].sort((a, b) => (a === "__name__" ? -1 : b === "__name__" ? 1 : a < b ? -1 : 1));
  return list.length <= 9 ? list : null;
}
const by = (r, column) => column === "value" ? Number(r.value) : column === "series" ? seriesName(r.metric) : r.metric[column] ?? "";
function showRows() {
  const wide = columns(), heads = wide ?? ["series"], filter = $("filter").value.toLowerCase();
  let shown = filter ? rows.filter(r => (seriesName(r.metric) + " " + r.value).toLowerCase().includes(filter)) : rows.slice();
  if (sorted.column) {
    const way = sorted.down ? -1 : 1;
    shown.sort((a, b) => { const x = by(a, sorted.column), y = by(b, sorted.column); return (x < y ? -1 : x > y ? 1 : 0) * way; });
  }
  $("rows").textContent = `${shown.length.toLocaleString()} rows` + (shown.length > MOST_ROWS ? `, the first ${MOST_ROWS} shown` : "");
  const top = element("tr");
  for (const name of [...heads, "value"]) {
    const th = element("th", name + (sorted.column === name ? (sorted.down ? " ↓" : " ↑") : ""), name === "value" ? "" : "text");
    th.setAttribute("role", "button"); th.tabIndex = 0;
    const turn = () => { sorted = { column: name, down: sorted.column === name ? !sorted.down : name === "value" }; showRows(); };
    th.addEventListener("click", turn); th.addEventListener("keydown", e => { if (e.key === "Enter") turn(); });
    top.append(th);
  }
  $("head").replaceChildren(top);
  $("body").replaceChildren(...shown.slice(0, MOST_ROWS).map(r => {
    const tr = element("tr");
    if (wide) tr.append(...wide.map(k => cell(r.metric[k] ?? "", "text"))); else tr.append(cell(seriesName(r.metric), "text series mono"));
    const value = cell(r.value); value.style.whiteSpace = "pre";
    if (r.histogram) value.append(bars(r.histogram));
    tr.append(value);
    return tr;
  }));
}
// A histogram's buckets as small bars: density is not drawn, counts are.
function bars(histogram) {
  const span = element("span", undefined, "bars"), buckets = (histogram.buckets || []).slice(-60), most = Math.max(...buckets.map(b => +b[3]), 1e-300);
  for (const [, from, to, count] of buckets) { const bar = element("i"); bar.style.height = Math.max(1, 22 * count / most) + "px"; bar.title = `${from} – ${to}: ${count}`; span.append(bar); }
  return span;
}

function cost(answer, ms, asked) {
  const timings = answer.data.stats?.timings || {}, samples = answer.data.stats?.samples || {};
  const item = (name, value) => { const s = element("span", name + " "); s.append(element("b", value)); return s; };
  const secondsText = s => s === undefined ? "–" : s < 1 ? (s * 1000).toFixed(s < 0.01 ? 2 : 0) + " ms" : s.toFixed(2) + " s";
  $("cost").className = "";
  $("cost").replaceChildren(
    item("series", (answer.data.result.length ?? 1).toLocaleString()), item("answered in", ms.toFixed(0) + " ms"), item("evaluated in", secondsText(timings.evalTotalTime)),
    item("prepared in", secondsText(timings.queryPreparationTime)), item("waited", secondsText(timings.execQueueTime)),
    item("samples looked at", short(samples.totalQueryableSamples)), item("most at a time", short(samples.peakSamples)), item("answer", short(answer.bytes, "B")),
    ...(asked.step ? [item("step", asked.step + " s")] : []));
}

function keep(query) {
  const list = [query, ...recent().filter(q => q !== query)].slice(0, 15);
  localStorage.setItem("recent", JSON.stringify(list));
  showRecent();
}
function recent() { try { return JSON.parse(localStorage.getItem("recent")) || []; } catch { return []; } }
function showRecent() {
  $("recent").replaceChildren(...(recent().length ? recent().map(q => { const a = element("a", q); a.title = q; a.addEventListener("click", () => { $("expression").value = q; grow(); run(); }); return a; }) : [element("span", "nothing yet", "soft")]));
}
function grow() { const e = $("expression"); e.style.height = "auto"; e.style.height = e.scrollHeight + 2 + "px"; }
function download(name, text) {
  const a = element("a"); a.href = URL.createObjectURL(new Blob([text], { type: "text/csv" })); a.download = name; a.click(); URL.revokeObjectURL(a.href);
}
const csvField = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

$("ask").addEventListener("submit", event => { event.preventDefault(); completion.close(); run(); });
$("expression").addEventListener("keydown", event => { if (event.key === "Enter" && !event.shiftKey && !event.defaultPrevented) { event.preventDefault(); completion.close(); run(); } });
for (const name of ["input", "resized"]) $("expression").addEventListener(name, grow);
for (const name of ["graph", "table"]) $("tab-" + name).addEventListener("click", () => { choose(name); run(); });
$("range").addEventListener("change", () => { if (!$("range").selectedOptions[0].dataset.custom) setSpan(+$("range").value); run(); });
for (const id of ["until", "step"]) $(id).addEventListener("change", run);
$("stacked").addEventListener("change", () => { plot.stacked = $("stacked").checked; plot.draw(); remember(); });
$("earlier").addEventListener("click", () => move(-0.5));
$("later").addEventListener("click", () => move(0.5));
$("filter").addEventListener("input", showRows);
$("format").addEventListener("click", async () => {
  const query = $("expression").value;
  try { $("expression").value = (await call("/api/v1/format_query", { query }, { method: "POST" })).data; wrong(null); grow(); } catch (error) { wrong(error, query); }
});
$("csv").addEventListener("click", () => {
  const names = [...new Set(rows.flatMap(r => Object.keys(r.metric)))].sort();
  download("answer.csv", [[...names, "value"].map(csvField).join(","), ...rows.map(r => [...names.map(n => r.metric[n] ?? ""), r.value].map(csvField).join(","))].join("\n") + "\n");
});
$("curl").addEventListener("click", () => {
  const { path, parameters } = question(), quote = text => `'${String(text).replaceAll("'", "'\\''")}'`;
  const parts = Object.entries(headers()).map(([k, v]) => `-H ${quote(k + ": " + (k === "Authorization" ? "Bearer TOKEN" : v))}`);
  navigator.clipboard?.writeText(["curl -s", quote(location.origin + path), ...parts, ...Object.entries(parameters).map(([k, v]) => `--data-urlencode ${quote(k + "=" + v)}`)].join(" "));
});
let timer = null;
$("every").addEventListener("change", () => { clearInterval(timer); const s = +$("every").value; if (s) timer = setInterval(() => { if (!document.hidden && !$("until").value) run(); }, s * 1000); });
addEventListener("hashchange", () => { recall(); grow(); run(); });
recall(); showRecent(); grow(); run();
if (!$("expression").value) $("expression").focus();
