// Lines over time on a canvas: axes, gaps, a cross-hair with values, zoom by dragging, a legend.

import { COLOURS, element, seriesName, short } from "./common.js";

const LEFT = 66, RIGHT = 10, TOP = 10, BOTTOM = 26;

function niceSteps(low, high, count) {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}

// Steps people read a clock by, in seconds.
const CLOCK = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000];

export function clockTicks(start, end, count) {
  const step = CLOCK.find(s => (end - start) / s <= count) || CLOCK[CLOCK.length - 1];
  // Ticks stand on whole local hours and days.
  const zone = new Date(start * 1000).getTimezoneOffset() * 60;
  const out = [];
  for (let t = Math.ceil((start - zone) / step) * step + zone; t <= end; t += step) out.push(t);
  return { ticks: out, step };
}

function tickText(t, step, span) {
  const date = new Date(t * 1000);
  if (step >= 86400) return date.toLocaleDateString([], { month: "short", day: "numeric", year: span > 3e7 ? "numeric" : undefined });
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined, hour12: false });
  return span > 86400 ? date.toLocaleDateString([], { month: "short", day: "numeric" }) + " " + clock : clock;
}

/** A plot in `canvas`; `zoomed(start, end)` is told which times were dragged over. */
export class Plot {
  constructor(canvas, legend, zoomed) {
    Object.assign(this, { canvas, legend, zoomed, series: [], off: new Set(), stacked: false, at: null, drag: null, unit: "" });
    this.tip = element("div", undefined, "tip");
    this.tip.hidden = true;
    document.body.append(this.tip);
    canvas.addEventListener("pointermove", e => this.moved(e));
    canvas.addEventListener("pointerleave", () => { this.at = null; this.tip.hidden = true; this.draw(); });
    canvas.addEventListener("pointerdown", e => { this.drag = this.timeOf(e); canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointerup", e => this.dropped(e));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Shows series as the API gives them: `{ metric, values: [[t, "v"], …] }`. */
  show(series, start, end, step) {
    this.series = series.map((s, i) => ({
      name: s.name ?? seriesName(s.metric), colour: COLOURS[i % COLOURS.length],
      points: (s.values || []).map(([t, v]) => [+t, v === "NaN" ? NaN : v === "+Inf" ? Infinity : v === "-Inf" ? -Infinity : +v]),
    }));
    Object.assign(this, { start, end, step });
    this.off.clear();
    this.draw();
    this.legend?.replaceChildren(...this.series.map((s, i) => this.entry(s, i)));
  }

  entry(s, i) {
    const div = element("div"), mark = element("i"), last = s.points.length ? short(s.points[s.points.length - 1][1], this.unit) : "–";
    mark.style.background = s.colour;
    div.append(mark, `${last}  ${s.name}`);
    div.title = s.name + "\nclick: hide or show; with Alt: only this one";
    div.addEventListener("click", e => {
      if (e.altKey) this.series.forEach((_, other) => other === i ? this.off.delete(other) : this.off.add(other));
      else if (!this.off.delete(i)) this.off.add(i);
      [...this.legend.children].forEach((d, at) => d.classList.toggle("off", this.off.has(at)));
      this.draw();
    });
    return div;
  }

  lines() {
    const shown = this.series.filter((_, i) => !this.off.has(i));
    if (!this.stacked) return shown.map(s => ({ ...s, drawn: s.points, below: null }));
    const sums = new Map();
    return shown.map(s => {
      const below = [], drawn = [];
      for (const [t, v] of s.points) {
        const under = sums.get(t) || 0, top = under + (Number.isFinite(v) ? v : 0);
        below.push([t, under]); drawn.push([t, top]); sums.set(t, top);
      }
      return { ...s, drawn, below };
    });
  }

  draw() {
    const { canvas } = this, ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || this.start === undefined) return;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const g = canvas.getContext("2d"), style = getComputedStyle(document.body);
    g.scale(ratio, ratio);
    g.font = '11px system-ui, "DejaVu Sans", sans-serif';
    const lines = this.lines();
    let low = Infinity, high = -Infinity;
    for (const s of lines) for (const [, v] of s.drawn) if (Number.isFinite(v)) { if (v < low) low = v; if (v > high) high = v; }
    if (low > high) { g.fillStyle = style.getPropertyValue("--soft"); g.textAlign = "center"; g.fillText("nothing to draw in this range", width / 2, height / 2); return; }
    if (this.stacked || (low > 0 && low < high * 0.5)) low = Math.min(low, 0);
    if (low === high) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }
    else if (!this.stacked) high += (high - low) * 0.03;
    this.x = t => LEFT + (t - this.start) / (this.end - this.start || 1) * (width - LEFT - RIGHT);
    this.y = v => TOP + (1 - (v - low) / (high - low)) * (height - TOP - BOTTOM);
    this.axes(g, style, low, high, width, height);
    for (const s of lines) this.line(g, s);
    this.overlay(g, style, height);
  }

  axes(g, style, low, high, width, height) {
    g.strokeStyle = style.getPropertyValue("--line"); g.fillStyle = style.getPropertyValue("--soft"); g.lineWidth = 1;
    g.textAlign = "right";
    for (const v of niceSteps(low, high, 5)) {
      const y = Math.round(this.y(v)) + 0.5;
      g.beginPath(); g.moveTo(LEFT, y); g.lineTo(width - RIGHT, y); g.stroke();
      g.fillText(short(v, this.unit), LEFT - 8, y + 4);
    }
    g.textAlign = "center";
    const { ticks, step } = clockTicks(this.start, this.end, Math.max(2, Math.floor(width / 120)));
    for (const t of ticks) {
      const x = this.x(t);
      if (x > LEFT + 12 && x < width - 24) g.fillText(tickText(t, step, this.end - this.start), x, height - 7);
    }
  }

  line(g, s) {
    g.strokeStyle = s.colour; g.fillStyle = s.colour; g.lineWidth = 1.6; g.lineJoin = "round";
    const path = new Path2D();
    let last = -Infinity, first = null;
    s.drawn.forEach(([t, v], i) => {
      if (!Number.isFinite(v)) { last = -Infinity; return; }
      const x = this.x(t), y = this.y(v), joined = t - last <= this.step * 1.5;
      if (joined) path.lineTo(x, y); else { path.moveTo(x, y); first = t; }
      const next = s.drawn[i + 1];
      // A point without neighbours would be an empty line.
      if (first === t && !(next && Number.isFinite(next[1]) && next[0] - t <= this.step * 1.5)) g.fillRect(x - 1.5, y - 1.5, 3, 3);
      last = t;
    });
    g.stroke(path);
    if (!s.below || !s.drawn.length) return;
    const area = new Path2D();
    s.drawn.forEach(([t, v], i) => i ? area.lineTo(this.x(t), this.y(v)) : area.moveTo(this.x(t), this.y(v)));
    [...s.below].reverse().forEach(([t, v]) => area.lineTo(this.x(t), this.y(v)));
    g.globalAlpha = 0.22; g.fill(area); g.globalAlpha = 1;
  }

  overlay(g, style, height) {
    if (this.at === null) return;
    if (this.drag !== null) {
      const from = this.x(Math.min(this.drag, this.at)), to = this.x(Math.max(this.drag, this.at));
      g.globalAlpha = 0.15; g.fillStyle = style.getPropertyValue("--brand"); g.fillRect(from, TOP, to - from, height - TOP - BOTTOM); g.globalAlpha = 1;
    }
    g.strokeStyle = style.getPropertyValue("--soft"); g.lineWidth = 1; g.setLineDash([3, 3]);
    g.beginPath(); g.moveTo(this.x(this.at), TOP); g.lineTo(this.x(this.at), height - BOTTOM); g.stroke(); g.setLineDash([]);
  }

  timeOf(event) {
    const width = this.canvas.clientWidth, share = (event.offsetX - LEFT) / (width - LEFT - RIGHT);
    return this.start + Math.min(1, Math.max(0, share)) * (this.end - this.start);
  }

  moved(event) {
    if (this.start === undefined) return;
    const t = this.timeOf(event), step = this.step || 1;
    this.at = this.drag === null ? Math.min(this.end, this.start + Math.round((t - this.start) / step) * step) : t;
    this.draw();
    const values = this.series.filter((_, i) => !this.off.has(i)).map(s => ({ s, p: s.points.find(p => Math.abs(p[0] - this.at) < step / 2 + 1e-6) })).filter(v => v.p);
    values.sort((a, b) => b.p[1] - a.p[1]);
    const rows = values.slice(0, 12).map(({ s, p }) => { const div = element("div"), mark = element("i"); mark.style.background = s.colour; div.append(mark, element("b", short(p[1], this.unit)), "  " + s.name); return div; });
    if (values.length > rows.length) rows.push(element("div", `and ${values.length - rows.length} more`, "soft"));
    this.tip.replaceChildren(element("div", new Date(this.at * 1000).toLocaleString([], { hour12: false }), "soft"), ...rows);
    this.tip.hidden = this.drag !== null || !rows.length;
    const right = event.pageX + 20 + this.tip.offsetWidth > document.documentElement.clientWidth;
    this.tip.style.left = (right ? event.pageX - this.tip.offsetWidth - 14 : event.pageX + 14) + "px";
    this.tip.style.top = event.pageY + 12 + "px";
  }

  dropped(event) {
    const from = this.drag, to = this.timeOf(event);
    this.drag = null;
    if (from !== null && Math.abs(this.x(to) - this.x(from)) > 8) this.zoomed?.(Math.min(from, to), Math.max(from, to));
    else this.draw();
  }
}
