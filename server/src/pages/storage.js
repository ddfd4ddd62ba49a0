// The storage page: blocks by level and day, compaction, retention, partitions, tenants.

import { $, COLOURS, ago, call, cell, element, header, short, tile } from "./common.js";

const LEVELS = ["fresh", "two hours", "days"];
const HEADS = [["name", "tenant", "text"], ["series", "active series"], [null, "samples in memory"], ["blocks", "blocks"], ["samples", "samples in blocks"], ["bytes", "bytes in blocks"], [null, "bytes / sample"], [null, "kept for"], [null, "deletions"], [null, "newest sample"]];
const SVG = "http://www.w3.org/2000/svg";
let sort = "bytes";

header(refresh);

async function refresh() {
  const asked = { sort, search: $("search").value.trim(), limit: $("limit").value, blocks: 100 };
  for (const key of ["partition", "level"]) if ($(key).value) asked[key] = $(key).value;
  let data;
  try { data = (await call("/api/v1/admin/storage", asked, { tenant: sessionStorage.getItem("tenant") || "*" })).data; } catch (error) {
    $("tiles").replaceChildren(tile("answer", error.message ?? "not reachable"));
    return;
  }
  tiles(data);
  $("problems").replaceChildren(...data.problems.map(text => element("p", text)));
  days(data.days);
  $("levels").replaceChildren(...data.levels.map(level => row([LEVELS[level.level], "text"], level.blocks, short(level.bytes, "B"), per(level.bytes, level.samples))));
  compaction(data);
  tenants(data.tenants);
  partitions(data.partitions);
  blocks(data.blocks);
}

const per = (bytes, samples) => samples ? (bytes / samples).toFixed(2) : "–";

function row(...cells) {
  const tr = element("tr");
  tr.append(...cells.map(c => Array.isArray(c) ? cell(...c) : c instanceof Node ? c : cell(c)));
  return tr;
}

function tiles({ totals, compaction, retention }) {
  $("tiles").replaceChildren(
    tile("in blocks", short(totals.block_bytes, "B")),
    tile("bytes / sample", per(totals.block_bytes, totals.block_samples)),
    tile("blocks", short(totals.blocks)),
    tile("samples in memory", short(totals.head_samples)),
    tile("log on disk", short(totals.log_bytes, "B")),
    tile("waits for merging", short(compaction.backlog_bytes, "B")),
    tile("retention lets go", short(retention.bytes_going, "B")),
    tile("disk free", short(totals.disk_free_bytes, "B")));
}

function svg(name, attributes, text) {
  const e = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (text !== undefined) e.textContent = text;
  return e;
}

/** Bars of the days from the first to the last, days without blocks included. */
function days(all) {
  const box = $("days"), width = box.clientWidth || 600, height = 190, left = 58, bottom = 22, DAY = 86400000;
  box.setAttribute("viewBox", `0 0 ${width} ${height}`);
  box.replaceChildren();
  if (!all.length) { box.append(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no blocks yet")); return; }
  const first = all[0].day_ms, count = Math.round((all.at(-1).day_ms - first) / DAY) + 1;
  const most = Math.max(...all.map(d => d.bytes.reduce((a, b) => a + b)));
  const slot = (width - left) / count, bar = Math.min(60, Math.max(1, slot - 2)), scale = (height - bottom - 12) / most;
  for (const part of [0, .5, 1]) {
    const y = height - bottom - part * most * scale;
    box.append(svg("line", { x1: left, x2: width, y1: y, y2: y, stroke: "var(--line)" }), svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, short(part * most, "B")));
  }
  for (const day of all) {
    const at = Math.round((day.day_ms - first) / DAY), x = left + at * slot + (slot - bar) / 2, name = new Date(day.day_ms).toISOString().slice(0, 10);
    let y = height - bottom;
    day.bytes.forEach((bytes, level) => {
      if (!bytes) return;
      y -= bytes * scale;
      const rect = svg("rect", { x, y, width: bar, height: Math.max(.5, bytes * scale), fill: COLOURS[level] });
      rect.append(svg("title", {}, `${name}: ${short(bytes, "B")} ${LEVELS[level]}`));
      box.append(rect);
    });
    const every = Math.ceil(count / (width / 90));
    if (at % every === 0) box.append(svg("text", { x: x + bar / 2, y: height - 6, "text-anchor": "middle" }, name.slice(5)));
  }
}

$("key").append(...LEVELS.map((name, level) => {
  const span = element("span", name), colour = element("i");
  colour.style.background = COLOURS[level];
  span.prepend(colour);
  return span;
}));

function compaction({ compaction: c, retention }) {
  const said = [
    `${c.window_merges + c.day_merges} merges since the start, ${c.failures} failed`,
    `${short(c.bytes_in, "B")} became ${short(c.bytes_out, "B")} in ${c.work_seconds.toFixed(1)} s of work`,
    `of entries ${c.entry_merges.rows + c.entry_merges.hours + c.entry_merges.days} merges, ${short(c.segment_bytes_in, "B")} became ${short(c.segment_bytes_out, "B")}`,
    `${c.backlog_blocks} blocks and ${c.backlog_segments} segments are due, ${c.removed_waiting} old objects wait to be removed`,
    `retention lets ${retention.blocks_going} blocks go, and rows of ${retention.tenants_going} tenants`,
  ];
  $("compaction").replaceChildren(...said.map(text => element("span", text)));
}

function kept(seconds) {
  if (!seconds) return "ever";
  const days = seconds / 86400;
  return days >= 730 ? (days / 365).toFixed(1) + " years" : days >= 2 ? Math.round(days) + " days" : (seconds / 3600).toFixed(0) + " h";
}

function tenants({ all, matching, rows }) {
  $("tenants-count").textContent = `${rows.length} of ${matching} shown` + (matching === all ? "" : `, ${all} tenants in all`);
  const most = Math.max(1, ...rows.map(t => t.block_bytes));
  $("tenants").replaceChildren(...rows.map(t => {
    const bytes = cell(short(t.block_bytes, "B") + (t.bytes_max ? " of " + short(t.bytes_max, "B") : ""), "share"), share = element("i");
    share.style.width = (100 * t.block_bytes / most).toFixed(1) + "%";
    bytes.append(share);
    return row([t.name, "text"], short(t.active_series), short(t.head_samples), t.blocks, short(t.block_samples), bytes, per(t.block_bytes, t.block_samples), kept(t.retention_seconds), t.deletes_pending || "–", ago(t.newest_ms));
  }));
}

function partitions(all) {
  const known = $("partition");
  if (known.options.length === 1) known.append(...all.map(p => { const o = element("option", "partition " + p.partition); o.value = p.partition; return o; }));
  $("partitions").replaceChildren(...all.map(p => row([p.partition, "text"], short(p.head_series), short(p.head_samples), short(p.log_bytes, "B"), p.blocks, short(p.bytes, "B"), per(p.bytes, p.samples), p.tombstones || "–", p.manifest, [p.read_only ?? "takes writes", p.read_only ? "text bad" : "text good"])));
}

function blocks({ matching, rows }) {
  const at = ms => new Date(ms).toISOString().slice(0, 19).replace("T", " ");
  $("blocks-count").textContent = `${rows.length} of ${matching} shown`;
  $("blocks").replaceChildren(...rows.map(b => row([b.name, "text mono"], [LEVELS[b.level] ?? b.level, "text"], [at(b.first_ms), "text"], [at(b.last_ms), "text"], short(b.series), short(b.samples + b.histograms), short(b.bytes, "B"), per(b.bytes, b.samples + b.histograms), ago(b.created_ms))));
}

function heads() {
  $("tenants-head").replaceChildren(...HEADS.map(([key, text, className]) => {
    const th = element("th", text + (key === sort ? " ↓" : ""), className);
    if (key) {
      th.setAttribute("role", "button");
      th.tabIndex = 0;
      const choose = () => { sort = key; heads(); refresh(); };
      th.addEventListener("click", choose);
      th.addEventListener("keydown", event => { if (event.key === "Enter") choose(); });
    }
    return th;
  }));
}

heads();
let waiting;
$("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(refresh, 250); });
for (const id of ["limit", "partition", "level"]) $(id).addEventListener("change", refresh);
for (const id of ["tenants-filter", "blocks-filter"]) $(id).addEventListener("submit", event => event.preventDefault());
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 10000);
