// Charts in SVG: few kinds, drawn to the width that is there.

import { h, s } from "./dom.js";
import { quality } from "./format.js";

const HEIGHT = 150, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 22;

/** Round numbers from 0 (or low) up to at least high. */
function ticks(low, high, wanted = 4) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => span / m <= wanted) ?? span;
  const found = [];
  for (let at = Math.floor(low / step) * step; at < high + step * 0.999; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function frame(node, label, height = HEIGHT) {
  const width = Math.max(240, node.clientWidth || 360);
  return { width, height, svg: s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label }) };
}

function yAxis(svg, width, height, marks, y, show) {
  for (const mark of marks) {
    svg.append(s("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(mark), y2: y(mark) }),
      s("text", { x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end" }, show(mark)));
  }
}

/** From when until when to draw: not from long before the first request on. */
function reach(trend) {
  const since = Date.parse(trend.since), until = Date.parse(trend.until), step = trend.step_s * 1000;
  const first = Math.min(...trend.points.map((point) => Date.parse(point.start)), until - 8 * step);
  return [Math.max(since, first - step), until];
}

function xAxis(svg, width, height, trend) {
  const [from, to] = reach(trend);
  const day = to - from > 36 * 3600e3;
  const x = (time) => LEFT + (width - LEFT - RIGHT) * (time - from) / Math.max(1, to - from);
  for (const share of width < 420 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
    const time = new Date(from + share * (to - from));
    const text = day ? time.toLocaleDateString([], { month: "short", day: "numeric" }) : time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: to - from < 300e3 ? "2-digit" : undefined, hour12: false });
    svg.append(s("text", { x: LEFT + share * (width - LEFT - RIGHT), y: height - 6, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, text));
  }
  return x;
}

/** Stacked bars over time. value: of a point; models: in the order of their colours. */
export function bars(node, trend, models, value, show, label) {
  const { width, height, svg } = frame(node, label);
  const steps = new Map();
  for (const point of trend.points) {
    const step = steps.get(point.start) ?? steps.set(point.start, new Map()).get(point.start);
    step.set(point.model, value(point));
  }
  const high = Math.max(...[...steps.values()].map((step) => [...step.values()].reduce((a, b) => a + b, 0)), 0) || 1;
  const marks = ticks(0, high), top = marks.at(-1);
  const y = (v) => height - BOTTOM - (height - BOTTOM - TOP) * v / top;
  yAxis(svg, width, height, marks, y, show);
  const x = xAxis(svg, width, height, trend);
  const bar = Math.max(1.5, x(reach(trend)[0] + trend.step_s * 1000) - LEFT - 1);
  for (const [start, step] of steps) {
    let below = 0;
    for (const [index, model] of models.entries()) {
      const here = step.get(model) ?? 0;
      if (!here) continue;
      svg.append(s("rect", { class: `f${index % 8}`, x: Math.max(LEFT, x(Date.parse(start))), width: bar, y: y(below + here), height: Math.max(0, y(below) - y(below + here)) },
        s("title", {}, `${model}: ${show(here)}, ${new Date(start).toLocaleString()}`)));
      below += here;
    }
  }
  return svg;
}

/** Lines over time. series: [{name, colour, points: [[time, value]]}]. */
export function lines(node, trend, series, show, label, most = Infinity) {
  const { width, height, svg } = frame(node, label);
  const values = series.flatMap((one) => one.points.map((point) => point[1]));
  const low = Math.min(...values, Infinity), high = Math.max(...values, -Infinity);
  if (!Number.isFinite(low)) return h("p", { class: "empty" }, "Nothing to draw yet.");
  const margin = (high - low) * 0.1 || Math.abs(high) * 0.1 || 1;
  const marks = ticks(Math.max(0, low - margin), Math.min(most, high + margin));
  const [bottom, top] = [marks[0], marks.at(-1)];
  const y = (v) => height - BOTTOM - (height - BOTTOM - TOP) * (v - bottom) / (top - bottom || 1);
  yAxis(svg, width, height, marks, y, show);
  const x = xAxis(svg, width, height, trend);
  const at = (time) => Math.min(width - RIGHT, Math.max(LEFT, x(time + trend.step_s * 500)));
  for (const one of series) {
    const path = one.points.map(([time, value], index) => `${index ? "L" : "M"}${at(time).toFixed(1)},${y(value).toFixed(1)}`).join("");
    svg.append(s("path", { class: `line s${one.colour}`, d: path }, s("title", {}, one.name)));
    for (const [time, value] of one.points.length < 40 ? one.points : one.points.slice(-1)) {
      svg.append(s("circle", { class: `s${one.colour} f${one.colour}`, cx: at(time), cy: y(value), r: 2.2 },
        s("title", {}, `${one.name}: ${show(value)}, ${new Date(time).toLocaleString()}`)));
    }
  }
  return svg;
}

/** Cost against quality, cost on a logarithmic axis. points: [{name, cost_usd, quality, colour}]. */
export function frontier(node, points, mine, show, label) {
  const { width, height, svg } = frame(node, label, 250);
  const all = [...points, mine].filter((p) => p.cost_usd > 0 && p.quality !== null);
  if (!all.length) return h("p", { class: "empty" }, "No bills and no judged answers yet.");
  const logs = all.map((p) => Math.log10(p.cost_usd));
  const from = Math.floor(Math.min(...logs) - 0.1), to = Math.ceil(Math.max(...logs) + 0.1);
  const low = Math.min(...all.map((p) => p.quality)), high = Math.max(...all.map((p) => p.quality));
  const marks = ticks(Math.max(0, low - 0.03), Math.min(1, high + 0.03));
  const y = (v) => height - 36 - (height - 36 - 16) * (v - marks[0]) / (marks.at(-1) - marks[0] || 1);
  const x = (cost) => LEFT + (width - LEFT - RIGHT) * (Math.log10(cost) - from) / (to - from || 1);
  yAxis(svg, width, height, marks, y, quality);
  // Where they would run into each other, every other power of ten is named.
  const every = Math.ceil((to - from) * 76 / (width - LEFT - RIGHT));
  for (let power = from; power <= to; power += 1) {
    const at = x(10 ** power);
    svg.append(s("line", { class: "axis", x1: at, x2: at, y1: 10, y2: height - 36 }));
    if ((power - from) % every) continue;
    svg.append(s("text", { x: at, y: height - 20, "text-anchor": power === from ? "start" : power === to ? "end" : "middle" }, `$${(10 ** power).toFixed(Math.max(0, -power))}`));
  }
  svg.append(s("text", { x: width / 2, y: height - 3, "text-anchor": "middle" }, "dollars per request (logarithmic)"));
  const fixed = all.filter((p) => p !== mine).sort((a, b) => a.cost_usd - b.cost_usd);
  const best = [];
  for (const point of fixed) if (!best.length || point.quality > best.at(-1).quality) best.push(point);
  svg.append(s("path", { class: "line axis", "stroke-dasharray": "4 4", d: best.map((p, i) => `${i ? "L" : "M"}${x(p.cost_usd)},${y(p.quality)}`).join("") }));
  const name = (text, cx, cy, strong) => s("text", { class: strong ? "strong" : null, x: Math.min(cx, width - RIGHT), y: cy, "text-anchor": cx > width * 0.6 ? "end" : "start", dx: cx > width * 0.6 ? -9 : 9, dy: strong ? -8 : 14 }, text);
  for (const p of fixed) {
    svg.append(s("circle", { class: `f${p.colour}`, cx: x(p.cost_usd), cy: y(p.quality), r: 6 }, s("title", {}, `always ${p.name}: ${quality(p.quality)} at ${show(p.cost_usd)}`)), name(width < 420 ? p.name : `always ${p.name}`, x(p.cost_usd), y(p.quality)));
  }
  if (all.includes(mine)) {
    const [cx, cy] = [x(mine.cost_usd), y(mine.quality)];
    svg.append(s("path", { class: "mine", d: `M${cx},${cy - 9}L${cx + 9},${cy}L${cx},${cy + 9}L${cx - 9},${cy}Z` }, s("title", {}, `the router: ${quality(mine.quality)} at ${show(mine.cost_usd)}`)), name("the router", cx, cy, true));
  }
  return svg;
}

/** Means with intervals, one row each. rows: [{name, mean, low, high, note, colour}]. */
export function intervals(node, rows, show, label) {
  const { width, svg } = frame(node, label, 34 * rows.length + 26);
  const low = Math.max(0, Math.min(...rows.map((r) => r.low))), high = Math.min(1, Math.max(...rows.map((r) => r.high)));
  const marks = ticks(low, high), bottom = 34 * rows.length + 2;
  const x = (v) => 10 + (width - 20) * (Math.min(marks.at(-1), Math.max(marks[0], v)) - marks[0]) / (marks.at(-1) - marks[0] || 1);
  for (const mark of marks) svg.append(s("line", { class: "axis", x1: x(mark), x2: x(mark), y1: 0, y2: bottom }), s("text", { x: x(mark), y: bottom + 16, "text-anchor": "middle" }, show(mark)));
  rows.forEach((row, index) => {
    const y = 34 * index + 24;
    svg.append(s("text", { class: "strong", x: 10, y: y - 10 }, row.name), s("text", { x: width - 10, y: y - 10, "text-anchor": "end" }, width < 440 ? row.note.split(",")[0] : row.note),
      s("line", { class: `s${row.colour}`, "stroke-width": 4, "stroke-linecap": "round", opacity: 0.55, x1: x(row.low), x2: x(row.high), y1: y, y2: y }),
      s("circle", { class: `f${row.colour}`, cx: x(row.mean), cy: y, r: 5 }, s("title", {}, `${row.name}: ${show(row.mean)}, 95 % between ${show(row.low)} and ${show(row.high)}`)));
  });
  return svg;
}
