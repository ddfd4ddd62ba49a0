// The targets page: what is scraped, by job, and how the last scrape of each went.

import { $, ago, callWidely, cell, element, header, tile } from "./common.js";

const MOST_SHOWN = 500;
const closed = new Set();
let targets = [], dropped = {};

header(refresh);

async function refresh() {
  try {
    const { data } = await callWidely("/api/v1/targets");
    targets = data.activeTargets;
    dropped = data.droppedTargetCounts || {};
    show();
  } catch (error) {
    $("message").className = "bad";
    $("message").textContent = error.message ?? "not reachable";
  }
}

function wanted(target) {
  const state = $("state").value, text = $("filter").value.trim().toLowerCase();
  if (state && target.health !== state) return false;
  if (!text) return true;
  const labels = Object.entries(target.labels).map(([name, value]) => `${name}="${value}"`).join(" ");
  return `${target.scrapePool} ${target.scrapeUrl} ${labels} ${target.lastError}`.toLowerCase().includes(text);
}

function labels(of) {
  const td = cell(undefined, "text labels");
  td.append(...Object.entries(of).map(([name, value]) => element("span", `${name}="${value}"`)));
  return td;
}

function row(target) {
  const tr = element("tr"), url = element("a", target.scrapeUrl);
  if (/^https?:/.test(target.scrapeUrl)) Object.assign(url, { href: target.scrapeUrl, rel: "noreferrer" });
  const where = cell(undefined, "text mono"), health = cell(undefined, "text");
  where.append(url);
  health.append(element("span", target.health, "pill " + ({ up: "good", down: "bad" }[target.health] ?? "soft")));
  const last = Date.parse(target.lastScrape), took = target.lastScrapeDuration;
  tr.append(where, health, labels(target.labels), cell(ago(last > 0 ? last : 0)), cell(last > 0 ? (took * 1000).toFixed(took < 0.01 ? 1 : 0) + " ms" : "–"), cell(target.scrapeInterval), cell(target.lastError, "text error"));
  return tr;
}

function pool(name, all) {
  const card = element("details", undefined, "card"), summary = element("summary");
  const up = all.filter(target => target.health === "up").length;
  card.open = !closed.has(name);
  card.addEventListener("toggle", () => card.open ? closed.delete(name) : closed.add(name));
  summary.append(element("h2", name), element("span", `${up} of ${all.length} up`, "pill " + (up === all.length ? "good" : "bad")));
  if (dropped[name]) summary.append(element("span", `${dropped[name]} dropped by relabelling`, "soft"));
  const table = element("table"), head = element("thead"), body = element("tbody"), tr = element("tr"), scroll = element("div", undefined, "scroll");
  for (const [text, kind] of [["target", "text"], ["state", "text"], ["labels", "text"], ["last scrape", ""], ["took", ""], ["every", ""], ["error", "text"]]) tr.append(element("th", text, kind));
  head.append(tr);
  body.append(...all.slice(0, MOST_SHOWN).map(row));
  table.append(head, body);
  scroll.append(table);
  card.append(summary, scroll);
  if (all.length > MOST_SHOWN) card.append(element("p", `the first ${MOST_SHOWN} of ${all.length} are shown; the filter finds the others`, "soft"));
  return card;
}

function show() {
  const shown = targets.filter(wanted), pools = Map.groupBy(shown, target => target.scrapePool);
  const count = state => targets.filter(target => target.health === state).length;
  const hidden = Object.values(dropped).reduce((sum, n) => sum + n, 0);
  $("tiles").replaceChildren(tile("targets", targets.length), tile("up", count("up")), tile("down", count("down")), tile("not yet scraped", count("unknown")), tile("dropped", hidden));
  $("message").className = "soft";
  $("message").textContent = targets.length === 0 ? "Nothing is scraped for this tenant. Name a file with scrape_configs as config_file in [ingest.scrape]." : shown.length === targets.length ? "" : `${shown.length} of ${targets.length} targets`;
  $("pools").replaceChildren(...[...pools].map(([name, all]) => pool(name, all)));
}

$("choose").addEventListener("submit", event => event.preventDefault());
$("filter").addEventListener("input", show);
$("state").addEventListener("change", show);
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 5000);
