// Completion of PromQL: what the cursor stands in decides whether functions, metrics, labels or
// values are offered. Names come from the API, so they are the tenant's own.

import { call, element } from "./common.js";

const OPERATIONS = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio"];
const KEYWORDS = ["by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "and", "or", "unless", "atan2"];
const MOST = 60;

/** What the text before the cursor asks for: `{ kind, from, typed, label?, selector? }`. */
export function context(text) {
  let quote = null, opened = -1, brace = -1, parens = [], word = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quote) {
      if (c === "\\" && quote !== "`") i++;
      else if (c === quote) quote = null;
      continue;
    }
    if (c === '"' || c === "'" || c === "`") { quote = c; opened = i + 1; }
    else if (c === "#") { const end = text.indexOf("\n", i); if (end < 0) return { kind: "none" }; i = end; }
    else if (c === "{") brace = i;
    else if (c === "}") brace = -1;
    else if (c === "(") parens.push(/(?:\b(?:by|without|on|ignoring|group_left|group_right))\s*$/.test(text.slice(0, i)));
    else if (c === ")") parens.pop();
    else if (c === "[") parens.push("[");
    else if (c === "]") parens.pop();
    if (!/[a-zA-Z0-9_:]/.test(c)) word = i + 1;
  }
  if (brace >= 0) {
    const before = text.slice(0, brace), metric = /([a-zA-Z_:][a-zA-Z0-9_:]*)\s*$/.exec(before)?.[1];
    if (quote) {
      const label = /([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*$/.exec(text.slice(0, opened - 1))?.[1];
      return label ? { kind: "value", label, metric, from: opened, typed: text.slice(opened), quote } : { kind: "none" };
    }
    const operator = /(?:=~|!~|!=|=)\s*$/.test(text);
    return operator ? { kind: "none" } : { kind: "label", metric, from: word, typed: text.slice(word) };
  }
  if (quote || parens[parens.length - 1] === "[") return { kind: "none" };
  if (parens[parens.length - 1] === true) return { kind: "label", metric: anyMetric(text), from: word, typed: text.slice(word) };
  const typed = text.slice(word);
  if (/^[0-9]/.test(typed)) return { kind: "none" };
  return { kind: "name", from: word, typed };
}

// For `sum by (` the metric stands anywhere else, most often behind.
function anyMetric(text) {
  return /([a-zA-Z_:][a-zA-Z0-9_:]*)\s*[{[]/.exec(text)?.[1];
}

const escaped = text => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const matcher = (label, typed) => `{${label}=~${JSON.stringify(".*" + escaped(typed) + ".*")}}`;

/** Offers what fits, below a text field. */
export class Completion {
  constructor(field, list) {
    Object.assign(this, { field, list, items: [], at: -1, asked: 0, functions: [] });
    field.setAttribute("role", "combobox"); field.setAttribute("aria-controls", list.id); field.setAttribute("aria-autocomplete", "list");
    list.setAttribute("role", "listbox");
    this.close();
    fetch("/assets/functions.json").then(answer => answer.json()).then(functions => { this.functions = functions; });
    field.addEventListener("input", () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.offer(), 90); });
    field.addEventListener("keydown", event => this.key(event));
    field.addEventListener("blur", () => setTimeout(() => this.close(), 150));
  }

  close() { clearTimeout(this.timer); this.asked++; this.items = []; this.at = -1; this.list.hidden = true; this.field.setAttribute("aria-expanded", "false"); }

  async offer(always = false) {
    const cursor = this.field.selectionStart, text = this.field.value;
    const place = context(text.slice(0, cursor));
    if (place.kind === "none" || (!always && !place.typed && place.kind === "name")) return this.close();
    if (place.kind === "label" && !place.metric) place.metric = anyMetric(text);
    const turn = ++this.asked;
    let items = [];
    try { items = await this.find(place); } catch { /* no completion is no reason to disturb */ }
    if (turn !== this.asked || document.activeElement !== this.field) return;
    this.place = place;
    this.show(rank(items, place.typed));
  }

  async find(place) {
    const hour = { start: Math.floor(Date.now() / 1000) - 3600, limit: 400 };
    if (place.kind === "name") {
      const own = [
        ...this.functions.map(f => ({ text: f.name, insert: f.name + "(", note: f.signature })),
        ...OPERATIONS.map(name => ({ text: name, insert: name, note: "aggregation" })),
        ...KEYWORDS.map(name => ({ text: name, insert: name + " ", note: "keyword" })),
      ];
      const names = await call("/api/v1/label/__name__/values", { ...hour, "match[]": matcher("__name__", place.typed) });
      return own.concat(names.data.map(name => /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name) ? { text: name, insert: name, note: "" } : { text: name, insert: `{${JSON.stringify(name)}}`, note: "" }));
    }
    const of = place.metric ? { "match[]": place.metric } : {};
    if (place.kind === "label") {
      const names = await call("/api/v1/labels", { ...hour, ...of });
      return names.data.filter(name => name !== "__name__").map(name => ({ text: name, insert: /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) ? name : JSON.stringify(name), note: "label" }));
    }
    const values = await call(`/api/v1/label/${encodeURIComponent(place.label)}/values`, { ...hour, ...(place.metric ? of : place.typed ? { "match[]": matcher(place.label, place.typed) } : {}) });
    return values.data.map(value => ({ text: value, insert: place.quote === "`" ? value : JSON.stringify(value).slice(1, -1), note: "value" }));
  }

  show(items) {
    if (!items.length) return this.close();
    this.items = items;
    this.at = 0;
    this.list.replaceChildren(...items.map((item, i) => {
      const row = element("div");
      row.setAttribute("role", "option"); row.id = `option-${i}`;
      row.append(element("span", item.text), element("span", item.note, "soft"));
      row.addEventListener("mousedown", event => { event.preventDefault(); this.take(i); });
      return row;
    }));
    this.list.hidden = false;
    this.field.setAttribute("aria-expanded", "true");
    this.mark();
  }

  mark() {
    [...this.list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === this.at)));
    this.list.children[this.at]?.scrollIntoView({ block: "nearest" });
    this.field.setAttribute("aria-activedescendant", `option-${this.at}`);
  }

  take(i) {
    const { from } = this.place, cursor = this.field.selectionStart, item = this.items[i];
    this.field.setRangeText(item.insert, from, cursor, "end");
    this.close();
    this.field.focus();
    this.field.dispatchEvent(new Event("resized"));
  }

  /** Whether the key was used for the list is told by preventing its default. */
  key(event) {
    if (event.key === " " && event.ctrlKey) { event.preventDefault(); return void this.offer(true); }
    if (this.list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) { event.preventDefault(); this.at = Math.min(this.items.length - 1, Math.max(0, this.at + step)); this.mark(); }
    else if (event.key === "Escape") { event.preventDefault(); this.close(); }
    else if (event.key === "Tab" || (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && this.items[this.at].text !== this.place.typed)) { event.preventDefault(); event.stopImmediatePropagation(); this.take(this.at); }
  }
}

// Names that begin with what was typed first, then those that contain it.
function rank(items, typed) {
  const low = typed.toLowerCase();
  const score = item => { const at = item.text.toLowerCase().indexOf(low); return at < 0 ? -1 : at === 0 ? 0 : 1; };
  const scored = items.map(item => [score(item), item]).filter(([s]) => s >= 0);
  scored.sort(([a, x], [b, y]) => a - b || (low ? x.text.length - y.text.length : 0) || (x.text < y.text ? -1 : 1));
  return scored.slice(0, MOST).map(([, item]) => item);
}
