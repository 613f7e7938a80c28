// Charts: uPlot with the page's own colours, redrawn when the theme or the width changes.

import uPlot from "/console/vendor/uplot-1.6.32/uPlot.js";
import { h } from "./dom.js";
import { clock, day } from "./format.js";

export const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const COLOURS = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];
const FONT = '12px system-ui, "Segoe UI", sans-serif';
const percents = (_, values) => values.map((value) => `${+(100 * value).toFixed(1)} %`);

/** An axis in the page's colours. */
export function axis(given = {}) {
  return { stroke: () => ink("soft"), grid: { stroke: () => ink("grid"), width: 1 }, ticks: { stroke: () => ink("line"), width: 1, size: 4 },
    font: FONT, gap: 4, size: 30, ...given };
}

export const shares = (given = {}) => axis({ size: 52, values: percents, ...given });

/** A time axis: times, with the day where it changes. */
export function times() {
  let last = null;
  const told = (at, i, incr) => {
    const date = new Date(at * 1000);
    const fresh = i === 0 || date.toDateString() !== last;
    last = date.toDateString();
    if (incr >= 86400) return day(date);
    return fresh ? `${clock(date)}\n${day(date)}` : clock(date);
  };
  return axis({ size: 42, space: 64, values: (_, splits, __, ___, incr) => splits.map((at, i) => told(at, i, incr)) });
}

/** A line; `colour` names a colour of the theme. */
export function line(label, colour, given = {}) {
  return { label, stroke: () => ink(colour), width: 1.75, points: { show: false }, ...given };
}

/**
 * A chart in an element that follows its width.
 * make() gives uPlot's options without size; describe(chart, index) the sentence under it (index null: none).
 */
export class Chart {
  constructor(label, height, make, describe = null) {
    this.make = make;
    this.height = height;
    this.describe = describe;
    this.data = null;
    this.area = h("div", { class: "chart", role: "img", "aria-label": label });
    this.tip = describe ? h("p", { class: "tip" }) : null;
    this.element = h("figure", {}, this.area, this.tip);
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(this.area);
    this.repaint = () => this.rebuild();
    document.addEventListener("theme", this.repaint);
  }

  draw(data) {
    this.data = data;
    if (this.plot && this.plot.series.length === data.length) this.plot.setData(data);
    else this.rebuild();
    this.tell(null);
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    const width = this.area.clientWidth;
    if (!this.data || !width) return;
    const given = this.make();
    const hooks = { ...given.hooks, setCursor: [(plot) => this.tell(plot.cursor.idx ?? null)] };
    this.plot = new uPlot({ legend: { show: false }, padding: [10, 12, 0, 4], ...given, hooks, width, height: this.height },
      this.data, this.area);
  }

  fit() {
    const width = this.area.clientWidth;
    if (!this.plot) this.rebuild();
    else if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  tell(index) {
    if (this.tip && this.data) this.tip.textContent = this.describe(index);
  }

  redraw() {
    this.plot?.redraw(false);
  }

  stop() {
    this.watch.disconnect();
    document.removeEventListener("theme", this.repaint);
    this.plot?.destroy();
    this.plot = null;
  }
}

/** A vertical line at x, for a draw hook. */
export function upright(plot, x, colour, { dash = [], width = 1.5 } = {}) {
  if (x === null || x === undefined) return;
  const at = Math.round(plot.valToPos(x, "x", true));
  stroke(plot, colour, dash, width, (ctx) => { ctx.moveTo(at, plot.bbox.top); ctx.lineTo(at, plot.bbox.top + plot.bbox.height); });
}

/** A horizontal line at y, for a draw hook. */
export function level(plot, y, colour, { dash = [5, 4], width = 1.25 } = {}) {
  const at = Math.round(plot.valToPos(y, "y", true));
  if (at < plot.bbox.top) return;
  stroke(plot, colour, dash, width, (ctx) => { ctx.moveTo(plot.bbox.left, at); ctx.lineTo(plot.bbox.left + plot.bbox.width, at); });
}

/** A shaded span of x, for a drawClear hook. */
export function shade(plot, from, to, colour) {
  const left = plot.valToPos(from, "x", true);
  const right = plot.valToPos(to, "x", true);
  plot.ctx.save();
  plot.ctx.fillStyle = ink(colour);
  plot.ctx.fillRect(left, plot.bbox.top, right - left, plot.bbox.height);
  plot.ctx.restore();
}

function stroke(plot, colour, dash, width, trace) {
  const { ctx } = plot;
  ctx.save();
  ctx.strokeStyle = ink(colour);
  ctx.lineWidth = width * devicePixelRatio;
  ctx.setLineDash(dash.map((part) => part * devicePixelRatio));
  ctx.beginPath();
  trace(ctx);
  ctx.stroke();
  ctx.restore();
}

export const bars = (share) => uPlot.paths.bars({ size: [share, 40], align: 0 });

/** A chart's key: [[colour class, text], ...]. */
export function legend(pairs) {
  return h("p", { class: "legend" }, pairs.map(([kind, text]) => h("span", {}, h("i", { class: `swatch ${kind}` }), text)));
}
