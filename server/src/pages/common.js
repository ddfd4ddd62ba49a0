// What all pages share: the header with tenant and credential, asking the API, texts for figures.

export const $ = id => document.getElementById(id);
export const COLOURS = ["#0b8a93", "#d1662b", "#6557c4", "#3d9148", "#c23b6e", "#a8821a", "#2f78c4", "#8a5a3c", "#5f7a86", "#b04fb5"];

const PAGES = [["/", "Status"], ["/explore", "Explore"], ["/search", "Search"], ["/storage", "Storage"], ["/targets", "Targets"]];
const WAVE = '<svg width="30" height="30" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" fill="#0b6e75"/><path d="M5 20q5.5-7 11 0t11 0M5 13q5.5-7 11 0t11 0" fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round"/></svg>';

/** Puts the header on the page; `changed` is called when another tenant or token is entered. */
export function header(changed) {
  const links = PAGES.map(([path, text]) => `<a href="${path}"${path === location.pathname ? ' aria-current="page"' : ""}>${text}</a>`).join("");
  document.querySelector("header").innerHTML = `<div>${WAVE}<h1><a href="/">Taffrail</a></h1><span class="soft" id="version"></span><nav>${links}</nav>
    <span class="grow"></span><label class="soft" for="tenant">tenant</label>
    <input id="tenant" size="14" placeholder="default" autocomplete="off">
    <input id="token" size="12" type="password" placeholder="token" autocomplete="off" aria-label="token" title="Only needed when the server asks for one. Kept in this tab.">
    <span class="pill" id="health" role="status">…</span></div>`;
  for (const id of ["tenant", "token"]) {
    $(id).value = sessionStorage.getItem(id) || "";
    $(id).addEventListener("change", () => { sessionStorage.setItem(id, $(id).value.trim()); changed(); });
  }
  const health = async () => {
    try {
      const ready = await fetch("/-/ready");
      $("health").textContent = ready.ok ? "ready" : (await ready.text()).trim();
      $("health").className = "pill " + (ready.ok ? "good" : "bad");
    } catch { $("health").textContent = "not reachable"; $("health").className = "pill bad"; }
  };
  health();
  setInterval(() => { if (!document.hidden) health(); }, 5000);
}

/** The headers that say who asks, for which tenant. */
export function headers(tenant = sessionStorage.getItem("tenant")) {
  const out = {}, token = sessionStorage.getItem("token");
  if (tenant) out["X-Scope-OrgID"] = tenant;
  if (token) out["Authorization"] = "Bearer " + token;
  return out;
}

/** Asks the API; gives the JSON document, or throws its error as `{ type, message }`. */
export async function call(path, parameters, { method = "GET", signal, tenant } = {}) {
  const body = parameters && new URLSearchParams(parameters);
  const answer = method === "GET"
    ? await fetch(body ? `${path}?${body}` : path, { headers: headers(tenant), signal })
    : await fetch(path, { method, headers: headers(tenant), body, signal });
  const text = await answer.text();
  let json;
  try { json = JSON.parse(text); } catch { throw { type: String(answer.status), message: text.trim() || answer.statusText }; }
  if (json.status !== "success") throw { type: json.errorType || String(answer.status), message: json.error || answer.statusText, status: answer.status };
  json.bytes = text.length;
  return json;
}

/** For the status pages: whoever may see all tenants sees all; others see their own. */
export async function callWidely(path) {
  if (!sessionStorage.getItem("tenant")) {
    try { return await call(path, undefined, { tenant: "*" }); } catch (error) { if (error.status !== 403) throw error; }
  }
  return call(path);
}

/** A figure of three digits: 1.23 M, 4.5 KiB. */
export function short(n, unit = "") {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  if (!Number.isFinite(n)) return n > 0 ? "+Inf" : "-Inf";
  const steps = unit === "B" ? [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"]] : [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]];
  for (const [size, name] of steps) if (Math.abs(n) >= size) return (n / (name === "k" ? 1000 : size)).toPrecision(3) + " " + name;
  const text = Math.abs(n) >= 100 ? n.toFixed(0) : String(+n.toPrecision(3));
  return unit ? text + " " + unit : text;
}

/** A length of time, as one figure. */
export const span = s => s < 90 ? s.toFixed(0) + " s" : s < 5400 ? (s / 60).toFixed(0) + " min" : (s / 3600).toFixed(0) + " h";

/** How long ago an instant was. */
export function ago(ms) {
  if (!ms) return "–";
  const s = Math.max(0, (Date.now() - ms) / 1000);
  return s < 172800 ? span(s) + " ago" : new Date(ms).toISOString().slice(0, 10);
}

/** An element with text, safe for any text. */
export function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}
export const cell = (text, className) => element("td", text, className);

export function tile(name, value) {
  const div = element("div", undefined, "card tile");
  div.append(element("span", name, "soft"), element("b", value));
  return div;
}

const quote = value => JSON.stringify(value);
const bare = name => /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name);

/** A series as PromQL writes it; names outside the old alphabet are quoted. */
export function seriesName(metric) {
  const { __name__: own = "", ...rest } = metric;
  const labels = Object.entries(rest).map(([k, v]) => `${bare(k) ? k : quote(k)}=${quote(v)}`);
  if (own && !/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(own)) return `{${[quote(own), ...labels].join(", ")}}`;
  return own + (labels.length || !own ? `{${labels.join(", ")}}` : "");
}
