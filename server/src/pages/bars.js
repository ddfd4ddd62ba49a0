// Counts over time as bars, stacked by level: click one or drag over some to look closer; arrows and
// Enter do the same.

const SVG = "http://www.w3.org/2000/svg";

/** Levels from the worst to the rest: where each is in the stack, and its colour. */
export const LEVELS = {
  fatal: [0, "var(--fatal)"], critical: [1, "var(--fatal)"], error: [2, "var(--error)"], warn: [3, "var(--warning)"],
  info: [4, "var(--info)"], debug: [5, "var(--debug)"], trace: [6, "var(--debug)"], unknown: [7, "var(--other)"],
};

function shape(x, y, width, height, fill) {
  const made = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ x, y, width, height })) made.setAttribute(name, value);
  made.style.fill = fill;
  return made;
}

/** Draws; gives each level that is there with its count. `tell.at` is told what is pointed at, and
    `tell.zoom` what was chosen. */
export function bars(into, counts, [from, to], tell) {
  const width = counts.seconds * 1000, buckets = Math.max(1, Math.ceil((to - from) / width));
  const levels = counts.histograms.map(one => [one.by.detected_level in LEVELS ? one.by.detected_level : "unknown", one.buckets.map(b => b.count)])
    .sort((a, b) => LEVELS[a[0]][0] - LEVELS[b[0]][0]);
  const sums = Array.from({ length: buckets }, (_, i) => levels.reduce((sum, [, own]) => sum + (own[i] || 0), 0));
  const highest = Math.max(1, ...sums);
  into.setAttribute("viewBox", `0 0 ${buckets * 10} 100`);
  into.setAttribute("aria-label", `${counts.total} entries over time; arrows go through the bars, Enter looks closer`);
  const drawn = [];
  for (let i = 0; i < buckets; i++) {
    let top = 100;
    for (const [level, own] of [...levels].reverse()) {
      const height = (own[i] || 0) / highest * 100;
      if (!height) continue;
      // What is there is to be seen, however little it is.
      const seen = Math.max(height, 1.5);
      top -= seen;
      drawn.push(shape(i * 10 + 0.8, top, 8.4, seen, LEVELS[level][1]));
    }
  }
  const chosen = shape(0, 0, 0, 100, "var(--brand)");
  chosen.style.opacity = .22;
  into.replaceChildren(...drawn, chosen);

  let first = null, last = null;
  const bounds = () => [Math.min(first, last), Math.max(first, last)];
  const point = () => {
    const [a, b] = bounds();
    chosen.setAttribute("x", a * 10);
    chosen.setAttribute("width", (b - a + 1) * 10);
    const sum = sums.slice(a, b + 1).reduce((x, y) => x + y, 0);
    const clock = ms => new Date(ms).toLocaleTimeString();
    tell.at(`${clock(from + a * width)} – ${clock(from + (b + 1) * width)}: ${sum}`);
  };
  const choose = () => {
    const [a, b] = bounds();
    tell.zoom(from + a * width, Math.min(to, from + (b + 1) * width));
  };
  const bucket = event => {
    const { left, width: whole } = into.getBoundingClientRect();
    return Math.max(0, Math.min(buckets - 1, Math.floor((event.clientX - left) / whole * buckets)));
  };
  let isDown = false;
  into.onpointerdown = event => { into.setPointerCapture(event.pointerId); isDown = true; first = last = bucket(event); point(); };
  into.onpointermove = event => { last = bucket(event); if (!isDown) first = last; point(); };
  into.onpointerup = () => { if (isDown) { isDown = false; choose(); } };
  into.onpointerleave = () => { if (!isDown) { chosen.setAttribute("width", 0); tell.at(""); } };
  into.onkeydown = event => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      last = Math.max(0, Math.min(buckets - 1, (last ?? (by > 0 ? -1 : buckets)) + by));
      if (!event.shiftKey || first === null) first = last;
      point();
      event.preventDefault();
    } else if (event.key === "Enter" && first !== null) choose();
  };
  const totals = {};
  for (const [level, own] of levels) totals[level] = (totals[level] || 0) + own.reduce((x, y) => x + y, 0);
  return Object.entries(totals).filter(([, count]) => count);
}
