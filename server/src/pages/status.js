// The status page: what is stored, how fast it comes in, where it goes on to, and a first question.

import { $, ago, call, callWidely, cell, element, header, seriesName, short, span, tile } from "./common.js";
import { Plot } from "./plot.js";

const EXAMPLES = ["sum by (mode) (rate(node_cpu_seconds_total[1m]))", "node_memory_MemAvailable_bytes", "rate(taffrail_ingest_samples_total[1m])", "node_load1", "count by (job) ({__name__!=\"\"})"];
const MOST_DRAWN = 40;

header(() => { mayAsk = true; refresh(); forwarding(); ask(); });
const plot = new Plot($("plot"), $("legend"), (start, end) => {
  const state = { q: $("expression").value, r: Math.max(10, Math.round(end - start)), e: new Date(end * 1000 - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 19) };
  location.href = "/explore#" + new URLSearchParams(state);
});
let before = null;
/** Whether destinations are told: to administrators alone. */
let mayAsk = true;

async function refresh() {
  let data;
  try { data = (await callWidely("/api/v1/status/overview")).data; } catch (error) {
    $("stored").replaceChildren();
    $("tiles").replaceChildren(tile("answer", error.message ?? "not reachable"));
    return;
  }
  const seconds = before ? data.uptime_seconds - before.uptime_seconds : 0;
  const rate = key => seconds > 0 ? short((data[key] - before[key]) / seconds) : "…";
  $("version").textContent = data.version;
  $("tiles").replaceChildren(
    tile("samples / s", rate("samples_total")),
    tile("active series", short(data.active_series)),
    tile("queries / s", rate("queries_total")),
    tile("stored in blocks", short(data.block_bytes, "B")),
    tile("log on disk", short(data.log_bytes, "B")),
    tile("disk free", short(data.disk_free_bytes, "B")),
    tile("up for", data.uptime_seconds < 5400 ? Math.round(data.uptime_seconds / 60) + " min" : (data.uptime_seconds / 3600).toFixed(1) + " h"));
  if (!before || seconds >= 4) before = data;
  $("stored").replaceChildren(...data.tenants.map(t => {
    const tr = element("tr"), per = t.block_samples ? (t.block_bytes / t.block_samples).toFixed(2) : "–";
    tr.append(cell(t.tenant, "text"), cell(t.signal, "text"), cell(short(t.active_series)), cell(short(t.head_samples)), cell(short(t.block_samples)), cell(t.blocks), cell(short(t.block_bytes, "B")), cell(per), cell(ago(t.newest_ms)));
    return tr;
  }));
}

async function forwarding() {
  let all = [];
  if (mayAsk) try { all = (await call("/api/v1/admin/forward")).data.destinations; } catch (error) { mayAsk = ![401, 403].includes(error.status); }
  $("forwarding").hidden = all.length === 0;
  $("destinations").replaceChildren(...all.flatMap(destination));
}

/** Its row, and one for what was wrong last. */
function destination(one) {
  const tr = element("tr"), name = cell(undefined, "text"), state = cell(undefined, "text"), waits = one.rows_pending > 0;
  const [text, kind] = one.last_error ? (waits ? ["failing", "bad"] : ["refuses rows", "warn"]) : waits ? ["sending", "good"] : ["idle", "good"];
  name.append(element("b", one.name), element("span", one.url, "soft mono where"));
  state.append(element("span", text, "pill " + kind));
  const newest = one.newest_queued_ms, sent = one.newest_sent_ms;
  const behind = !waits ? "0 s" : newest === null || sent === null ? "–" : span(Math.max(0, newest - sent) / 1000);
  tr.append(name, state, cell(one.protocol), cell(short(one.rows_pending)), cell(`${short(one.queue_bytes, "B")} of ${short(one.queue_bytes_max, "B")}`), cell(behind), cell(short(one.rows_sent)), cell(short(one.rows_retried)), cell(short(one.rows_failed), one.rows_failed ? "bad" : ""), cell(short(one.rows_lost), one.rows_lost ? "bad" : ""));
  if (!one.last_error) return [tr];
  const below = element("tr"), error = cell(one.last_error, "text error");
  tr.className = "told";
  error.colSpan = tr.cells.length;
  below.append(error);
  return [tr, below];
}

async function ask() {
  const query = $("expression").value.trim();
  if (!query) return;
  const span = +$("range").value, step = Math.max(1, Math.round(span / 300)), end = Math.floor(Date.now() / 1000 / step) * step, start = end - span;
  const began = performance.now();
  $("wider").href = "/explore#" + new URLSearchParams({ q: query, r: span });
  try {
    const answer = await call("/api/v1/query_range", { query, start, end, step }, { method: "POST" });
    const all = answer.data.result, shown = all.slice(0, MOST_DRAWN);
    $("message").className = "soft";
    $("message").textContent = `${all.length} series in ${(performance.now() - began).toFixed(0)} ms` + (all.length > MOST_DRAWN ? `, the first ${MOST_DRAWN} shown` : "") + (answer.warnings ? " · " + answer.warnings.join(" · ") : "");
    plot.show(shown.map(s => s.values ? s : { name: seriesName(s.metric) + " (histogram: count)", values: (s.histograms || []).map(([t, h]) => [t, h.count]) }), start, end, step);
  } catch (error) {
    $("message").className = "bad";
    $("message").textContent = error.type ? `${error.type}: ${error.message}` : String(error);
  }
}

$("ask").addEventListener("submit", event => { event.preventDefault(); location.hash = encodeURIComponent($("expression").value); ask(); });
$("range").addEventListener("change", ask);
for (const text of EXAMPLES) {
  const a = element("a", text);
  a.addEventListener("click", () => { $("expression").value = text; $("ask").requestSubmit(); });
  $("examples").append(a);
}
$("expression").value = decodeURIComponent(location.hash.slice(1)) || EXAMPLES[0];
refresh(); forwarding(); ask();
setInterval(() => { if (!document.hidden) { refresh(); forwarding(); } }, 5000);
setInterval(() => { if (!document.hidden) ask(); }, 15000);
