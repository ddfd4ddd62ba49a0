// The search page: asks `/api/v1/search`, shows what was found and what comes.
//
// Everything that was logged is shown as text: nothing here makes HTML of it.

import { $, ago, call, cell, element, header, headers, short } from "./common.js";
import { bars, LEVELS } from "./bars.js";
import { matcher, read } from "./words.js";

const RANGES = [[300, "5 min"], [900, "15 min"], [3600, "1 h"], [21600, "6 h"], [86400, "24 h"], [604800, "7 d"], [2592000, "30 d"]];
const PAGE = 100, LIVE_ROWS = 1000;

/** What can be filtered by: parameter, name by which values are listed, word. */
const FILTERS = {
  logs: [["namespaces", "namespace", "namespace"], ["workloads", "workload", "workload"], ["pods", "pod", "pod"], ["containers", "container", "container"], ["level", "detected_level", "level"]],
  events: [["namespaces", "namespace", "namespace"], ["involved_object_kind", "involvedObject_kind", "kind of object"], ["involved_object_name", "involvedObject_name", "object"], ["reason", "reason", "reason"], ["type", "type", "type"]],
  audits: [["namespaces", "namespace", "namespace"], ["user", "user_username", "user"], ["verb", "verb", "verb"], ["resource", "objectRef_resource", "resource"], ["response_code", "responseStatus_code", "code"]],
};
const SHOWN_AS = { logs: ["namespace", "pod", "container"], events: ["involvedObject_namespace", "involvedObject_kind", "involvedObject_name"], audits: ["user_username", "verb", "objectRef_resource"] };

let signal = "logs", fields = [], cursor = null, asked = 0, live = null, sources = [];
/** What was asked for what is shown: the pages behind it are of the same. */
let shownFor = [];

// What is asked stands in the address, so that it can be sent on and gone back to.

function restore() {
  const asked = new URLSearchParams(location.search);
  signal = FILTERS[asked.get("signal")] ? asked.get("signal") : "logs";
  fields = asked.getAll("field");
  $("words").value = asked.get("q") || "";
  $("match").value = asked.get("match") || "part";
  $("case").checked = asked.get("case") === "exact";
  choose(Number(asked.get("range")) || 3600);
  $("until").value = asked.get("until") || "";
  drawFilters();
  for (const [parameter] of FILTERS[signal]) $("filter-" + parameter).value = asked.get(parameter) || "";
}

function remember() {
  const kept = new URLSearchParams({ signal });
  const put = (name, value, usual = "") => value !== usual && kept.set(name, value);
  put("q", $("words").value.trim());
  put("match", $("match").value, "part");
  put("case", $("case").checked ? "exact" : "");
  put("range", $("range").value, "3600");
  put("until", $("until").value);
  for (const [parameter] of FILTERS[signal]) put(parameter, $("filter-" + parameter).value.trim());
  fields.forEach(field => kept.append("field", field));
  if ("?" + kept !== location.search) history.pushState(null, "", "?" + kept);
}

/** The time that is asked about, in milliseconds. */
function times() {
  const until = $("until").value ? new Date($("until").value).getTime() : Date.now();
  return [until - Number($("range").value) * 1000, until];
}

function choose(seconds) {
  const options = RANGES.some(([known]) => known === seconds) ? RANGES : [[seconds, spell(seconds)], ...RANGES];
  $("range").replaceChildren(...options.map(([value, text]) => {
    const option = element("option", text);
    option.value = value;
    return option;
  }));
  $("range").value = seconds;
}

const spell = s => s < 120 ? s + " s" : s < 7200 ? Math.round(s / 60) + " min" : s < 172800 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " d";

/** A time for `until`: local, to the second. */
const local = ms => new Date(ms - new Date(ms).getTimezoneOffset() * 60000).toISOString().slice(0, 19);

function zoom(from, to) {
  choose(Math.max(1, Math.ceil((to - from) / 1000)));
  $("until").value = local(Math.ceil(to / 1000) * 1000);
  search();
}

/** Conditions, without times. */
function conditions() {
  const out = [], said = $("words").value.trim();
  if (said.startsWith("{")) out.push(["query", said]);
  else out.push(...read(said, $("match").value));
  if ($("match").value !== "part") out.push(["match", $("match").value]);
  if ($("case").checked) out.push(["case", "exact"]);
  for (const [parameter] of FILTERS[signal]) {
    const value = $("filter-" + parameter).value.trim();
    if (value) out.push([parameter, value]);
  }
  // A comma stands between values: one with a comma in it is looked for as a part.
  for (const field of fields) out.push([field.includes(",") ? "field_like" : "field", field]);
  return out;
}

const ns = ms => ms + "000000";
const within = ([from, to]) => [["start", ns(from)], ["end", ns(to)]];
const path = () => "/api/v1/search/" + signal;

// Filters: their values are those that entries of the time have.

function drawFilters() {
  for (const name of Object.keys(FILTERS)) $("tab-" + name).setAttribute("aria-selected", String(name === signal));
  $("filters").replaceChildren(...FILTERS[signal].map(([parameter, name, word]) => {
    const label = element("label", word), input = element("input"), list = element("datalist");
    input.id = "filter-" + parameter;
    input.autocomplete = "off";
    input.placeholder = "any";
    list.id = "values-" + parameter;
    input.setAttribute("list", list.id);
    input.addEventListener("focus", () => fillValues(list, name));
    input.addEventListener("change", search);
    label.append(input, list);
    return label;
  }));
  drawChips();
}

async function fillValues(list, name) {
  const [from, to] = times();
  if (list.dataset.of === `${from - from % 60000} ${to - to % 60000}`) return;
  try {
    const parameters = [["operation", "histogram"], ["by", name], ["interval", Math.ceil((to - from) / 1000) + "s"], ...within([from, to])];
    const { data } = await call(path(), parameters);
    const values = data.histograms.map(one => one.by[name]).filter(Boolean).slice(0, 500);
    list.replaceChildren(...values.map(value => { const option = element("option"); option.value = value; return option; }));
    list.dataset.of = `${from - from % 60000} ${to - to % 60000}`;
  } catch { /* Whoever may not list them can still write them. */ }
}

function drawChips() {
  $("chips").hidden = !fields.length;
  $("chips").replaceChildren(...fields.map(field => {
    const chip = element("button", field.replace(":", " = ") + "  ×");
    chip.type = "button";
    chip.title = "remove this filter";
    chip.addEventListener("click", () => { fields = fields.filter(one => one !== field); drawChips(); search(); });
    return chip;
  }));
}

function addFilter(name, value) {
  const own = FILTERS[signal].find(([, of]) => of === name);
  if (own && !value.includes(",")) $("filter-" + own[0]).value = value;
  else if (!fields.includes(`${name}:${value}`)) fields.push(`${name}:${value}`);
  drawChips();
  search();
}

// Searching.

async function search() {
  if (live) stopLive();
  remember();
  const mine = ++asked;
  notice();
  $("back").hidden = true;
  $("heading").textContent = "Newest first";
  $("shown").textContent = "searching …";
  const time = times(), asking = [...conditions(), ...within(time)];
  const [page, counts] = await Promise.allSettled([
    call(path(), [...asking, ["size", PAGE]]),
    count(asking, time),
  ]);
  if (mine !== asked) return;
  if (page.status === "rejected") return failed(page.reason);
  $("times").hidden = counts.status === "rejected";
  if (counts.status === "rejected") notice(counts.reason.message, true);
  else drawBars(counts.value, time);
  shownFor = asking;
  show(page.value.data, true);
  if (!page.value.data.entries.length) nothingFound(time);
}

async function count(asking, [from, to]) {
  const seconds = Math.max(1, Math.ceil((to - from) / 1000 / 60));
  const parameters = [...asking, ["operation", "histogram"], ["by", "detected_level"], ["interval", seconds + "s"]];
  return { ...(await call(path(), parameters)).data, seconds };
}

function failed(error) {
  $("shown").textContent = "";
  $("times").hidden = true;
  $("list").replaceChildren();
  $("older").hidden = true;
  const texts = {
    401: "The server asks who you are: enter a token at the top.",
    403: "You are not permitted to read this.",
    422: "A limit was reached.",
    429: "Too many questions of this tenant run at a time; ask again in a moment.",
  };
  const first = texts[error.status] || texts[error.type];
  notice(first ? `${first}\n${error.message}` : error.message || String(error), true);
}

/** Says which of the reasons it is: never spoke, not lately, or nothing that matches. */
function nothingFound([from, to]) {
  const own = sources.filter(source => source.signal === signal);
  if (!own.length) {
    const off = { logs: "is a collector set up?", events: "is an exporter of events set up?", audits: "is auditing switched on?" };
    return notice(`No ${signal} have ever come for this tenant: ${off[signal]}`);
  }
  const last = Math.max(...own.map(source => Date.parse(source.last))), first = Math.min(...own.map(source => Date.parse(source.first)));
  if (last < from) return notice(`Nothing in this time: the newest of the ${signal} is from ${new Date(last).toLocaleString()}.`, false, "Go there", () => zoom(last - 3600000, last + 1000));
  if (first >= to) return notice(`Nothing in this time: the oldest of the ${signal} is from ${new Date(first).toLocaleString()}.`, false, "Go there", () => zoom(first, first + 3600000));
  const narrow = conditions().length > 0;
  notice(narrow ? "Nothing found. There are entries; none in this time is what was asked for." : "Nothing came in this time.");
}

function notice(text, isBad, action, act) {
  $("notice").hidden = !text;
  $("notice").className = isBad ? "bad" : "";
  $("notice").setAttribute("role", isBad ? "alert" : "status");
  $("notice").replaceChildren(text || "");
  if (action) {
    const button = element("button", action);
    button.addEventListener("click", act);
    $("notice").append(button);
  }
}

function drawBars(counts, [from, to]) {
  $("total").textContent = `${short(counts.total)} ${counts.total === 1 ? "entry" : "entries"}`;
  const drawn = bars($("bars"), counts, [from, to], { at: text => { $("at").textContent = text; }, zoom });
  $("keys").replaceChildren(...drawn.map(([level, count]) => {
    const key = element("span"), colour = element("i");
    colour.style.background = LEVELS[level][1];
    key.append(colour, `${level} ${short(count)}`);
    return key;
  }));
  const clock = ms => new Date(ms).toLocaleString([], { dateStyle: "short", timeStyle: "medium" });
  $("from").textContent = clock(from);
  $("to").textContent = clock(to);
}

// Entries.

function show(data, isNew) {
  const rows = data.entries.map(row);
  isNew ? $("list").replaceChildren(...rows) : $("list").append(...rows);
  cursor = data.cursor;
  $("older").hidden = !cursor;
  const count = $("list").children.length;
  $("shown").textContent = count ? `${count} shown${cursor ? "" : ", that is all"}` : "";
}

/** Levels are told by colour and, for whoever does not see it, by word. */
const colour = level => (LEVELS[level] || LEVELS.unknown)[1];

function row(entry) {
  const item = element("li"), line = element("button", undefined, "line"), time = element("time");
  const at = new Date(entry.time);
  item.style.borderLeftColor = colour(entry.level);
  time.dateTime = entry.time;
  time.title = entry.time;
  time.textContent = `${local(at.getTime()).replace("T", " ")}.${entry.time.slice(20, 23)}`;
  const names = { ...Object.fromEntries(Object.entries(entry.fields)), ...entry.labels };
  const of = SHOWN_AS[signal].map(name => names[name]).filter(Boolean).join(" / ") || entry.labels.service_name || Object.values(entry.labels)[0] || "";
  const source = element("span", of, "of"), text = element("span", undefined, "text");
  source.title = of;
  highlight(text, signal === "events" && names.message ? `${names.reason || ""}: ${names.message}` : entry.line);
  line.type = "button";
  line.setAttribute("aria-expanded", "false");
  line.setAttribute("aria-label", `${entry.level}, ${time.textContent}, ${of}: ${entry.line.slice(0, 300)}`);
  line.append(time, source, text);
  line.addEventListener("click", () => {
    const more = item.querySelector(".more");
    if (more) more.remove(); else item.append(details(entry));
    line.setAttribute("aria-expanded", String(!more));
  });
  item.append(line);
  return item;
}

/** The text with what was looked for marked. */
function highlight(into, text) {
  const find = $("words").value.trim().startsWith("{") ? null : matcher($("words").value, $("match").value, $("case").checked);
  // What is longer is not looked through: it would hold up the page.
  const head = find ? text.slice(0, 4000) : "";
  let done = 0, marks = 0;
  for (const found of find ? head.matchAll(find) : []) {
    if (!found[0] || ++marks > 100) break;
    into.append(text.slice(done, found.index), element("mark", found[0]));
    done = found.index + found[0].length;
  }
  into.append(text.slice(done));
}

function details(entry) {
  const more = element("div", undefined, "more"), buttons = element("div", undefined, "row");
  const button = (text, act) => {
    const made = element("button", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  };
  buttons.append(button("Context around this line", () => context(entry)), button("Copy", () => navigator.clipboard?.writeText(entry.line)));
  more.append(buttons);
  const pretty = spelledOut(entry.line);
  if (pretty) more.append(element("pre", pretty));
  for (const [title, pairs] of [["Labels", entry.labels], ["Fields", entry.fields]]) {
    const names = Object.keys(pairs);
    if (!names.length) continue;
    const table = element("table"), body = element("tbody");
    for (const name of names) {
      const line = element("tr"), act = cell();
      const only = button("only", () => addFilter(name, pairs[name]));
      only.title = `only entries with this ${name}`;
      only.setAttribute("aria-label", `only entries with ${name} ${pairs[name]}`);
      act.append(only);
      line.append(cell(name), cell(pairs[name]), act);
      body.append(line);
    }
    table.append(body);
    more.append(element("h3", title), table);
  }
  more.append(element("h3", `level ${entry.level} · ${entry.time}`));
  return more;
}

function spelledOut(line) {
  if (!/^\s*[{[]/.test(line)) return null;
  try { return JSON.stringify(JSON.parse(line), null, 2); } catch { return null; }
}

async function context(entry) {
  if (live) stopLive();
  const mine = ++asked;
  try {
    const asking = [...conditions(), ["operation", "context"], ["place", entry.place], ["before", 25], ["after", 25]];
    const { data } = await call(path(), asking);
    if (mine !== asked) return;
    const rows = data.entries.map(row);
    rows[data.at].classList.add("here");
    $("list").replaceChildren(...rows);
    $("older").hidden = true;
    $("back").hidden = false;
    $("heading").textContent = "Around one line, oldest first";
    $("shown").textContent = `${data.at} before it, ${rows.length - data.at - 1} behind`;
    rows[data.at].scrollIntoView({ block: "center" });
    rows[data.at].firstChild.focus({ preventScroll: true });
  } catch (error) { if (mine === asked) notice(error.message || String(error), true); }
}

async function older() {
  const mine = asked;
  $("older").disabled = true;
  try {
    const page = await call(path(), [...shownFor, ["size", PAGE], ["cursor", cursor]]);
    if (mine === asked) show(page.data, false);
  } catch (error) { if (mine === asked) notice(error.message || String(error), true); }
  $("older").disabled = false;
}

// Live: what comes, newest on top. A connection that breaks goes on behind the last entry.

function startLive() {
  remember();
  asked++;
  notice();
  live = new AbortController();
  $("live").setAttribute("aria-pressed", "true");
  $("times").hidden = true;
  $("older").hidden = true;
  $("back").hidden = true;
  $("heading").textContent = "Live, newest first";
  $("list").replaceChildren();
  follow(live);
}

function stopLive() {
  live.abort();
  live = null;
  $("live").setAttribute("aria-pressed", "false");
  $("times").hidden = false;
  $("heading").textContent = "Newest first";
}

async function follow(mine) {
  const asking = conditions(), known = new Set();
  let last = "", dropped = 0, waited = 0;
  const told = text => { if (live === mine) $("shown").textContent = text + (dropped ? ` · ${short(dropped)} left out: they came too fast` : ""); };
  const take = line => {
    const came = JSON.parse(line);
    if (came.id) last = came.id;
    if (came.dropped) dropped += came.dropped.count;
    if (came.end) throw { message: came.end.reason };
    if (came.entry && !known.has(came.entry.place)) {
      known.add(came.entry.place);
      $("list").prepend(row(came.entry));
    }
    while ($("list").children.length > LIVE_ROWS) $("list").lastChild.remove();
    if (known.size > 10 * LIVE_ROWS) known.clear();
  };
  while (live === mine) {
    try {
      told(last ? "connecting again …" : "connecting …");
      const parameters = new URLSearchParams([...asking, ["size", 20], ...(last ? [["last_event_id", last]] : [])]);
      const answer = await fetch(`${path()}/tail?${parameters}`, { headers: headers(), signal: mine.signal });
      if (!answer.ok) {
        const { error } = await answer.json().catch(() => ({ error: answer.statusText }));
        if (answer.status < 500 && live === mine) { stopLive(); return failed({ status: answer.status, message: error }); }
        throw { message: error };
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = "", told_ = false; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        lines.filter(Boolean).forEach(take);
        waited = 0;
        if (!told_ || lines.length) told(`following · ${$("list").children.length} shown`);
        told_ = true;
      }
    } catch (error) {
      if (live !== mine) return;
      told(`${error.message || error}; connecting again`);
    }
    await new Promise(done => setTimeout(done, Math.min(10000, 500 * 2 ** waited++)));
  }
}

// The rest.

async function drawSources() {
  try { sources = (await call("/api/v1/search/sources")).data; } catch { sources = []; }
  $("sources").replaceChildren(...sources.map(source => {
    const line = element("tr");
    const last = cell(ago(Date.parse(source.last))), first = cell(ago(Date.parse(source.first)));
    last.title = source.last;
    first.title = source.first;
    line.append(cell(source.signal, "text"), cell(source.kind, "text"), cell(source.cluster || "–", "text"), cell(source.tenant, "text"), last, first, cell(short(source.entries)), cell(short(source.bytes, "B")));
    return line;
  }));
  if (!sources.length) {
    const line = element("tr"), nothing = cell("nothing yet", "text soft");
    nothing.colSpan = 8;
    line.append(nothing);
    $("sources").append(line);
  }
}

/** Gets the export with whoever's credentials, and saves it. */
async function download() {
  $("export").disabled = true;
  try {
    const parameters = new URLSearchParams([...conditions(), ...within(times()), ["operation", "export"]]);
    const answer = await fetch(`${path()}?${parameters}`, { headers: headers() });
    const blob = await answer.blob();
    if (!answer.ok) throw { message: await blob.text() };
    const link = element("a"), url = URL.createObjectURL(blob);
    link.href = url;
    link.download = `${signal}.ndjson`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  } catch (error) { notice(error.message || String(error), true); }
  $("export").disabled = false;
}

function step(by) {
  const [from, to] = times();
  $("until").value = local(to + by * (to - from) / 2);
  search();
}

async function begin() {
  restore();
  await drawSources();
  search();
}

header(begin);
$("ask").addEventListener("submit", event => { event.preventDefault(); live ? (stopLive(), startLive()) : search(); });
for (const id of ["range", "until", "match", "case"]) $(id).addEventListener("change", search);
for (const name of Object.keys(FILTERS)) {
  $("tab-" + name).addEventListener("click", () => { signal = name; fields = []; drawFilters(); search(); });
}
$("live").addEventListener("click", () => { if (live) { stopLive(); search(); } else startLive(); });
$("older").addEventListener("click", older);
$("back").addEventListener("click", search);
$("export").addEventListener("click", download);
$("earlier").addEventListener("click", () => step(-1));
$("later").addEventListener("click", () => step(1));
$("out").addEventListener("click", () => { const [from, to] = times(); zoom(from - (to - from) / 2, Math.min(Date.now(), to + (to - from) / 2)); });
addEventListener("popstate", begin);
addEventListener("keydown", event => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !isTyping) { event.preventDefault(); $("words").focus(); }
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.classList.contains("line")) {
    const next = event.key === "ArrowDown" ? event.target.parentNode.nextSibling : event.target.parentNode.previousSibling;
    if (next) { event.preventDefault(); next.firstChild.focus(); }
  }
});
begin();
