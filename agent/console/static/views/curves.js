// The two curves over the threshold: what System 2 would contradict, and what it would have to answer.

import uPlot from "/console/vendor/uplot-1.6.32/uPlot.js";
import { axis, Chart, ink, legend, level, line, shade, shares, upright } from "../chart.js";
import { h } from "../dom.js";
import { percent } from "../format.js";

const SYNC = "threshold";

/** { element, draw(), mark(), stop() }; `pick` is called with the threshold of a click. */
export function curves(state, pick) {
  const x = { time: false, range: () => [state.from, 1] };
  const tops = () => {
    const highest = Math.max(2 * state.found.goal.max_disagreement, ...state.found.points.filter((p) => p.disagreement !== null && p.effective >= 5 && p.threshold >= state.from).map((p) => Math.min(p.high, p.disagreement * 1.6)));
    return [0, Math.min(1, highest * 1.08)];
  };
  const marks = (plot, goal) => {
    if (goal) level(plot, state.found.goal.max_disagreement, "bad");
    upright(plot, state.found.in_force?.value, "soft", { dash: [2, 3] });
    upright(plot, state.at, "ink", { width: 2 });
  };
  const common = (extra) => ({
    cursor: { y: false, sync: { key: SYNC }, points: { size: 7 }, drag: { x: false, y: false }, bind: { click: clicked } },
    scales: { x, ...extra.scales }, series: extra.series, axes: extra.axes, bands: extra.bands,
    hooks: { drawClear: [(plot) => outside(plot, state.found)], draw: [(plot) => marks(plot, extra.goal)] },
  });
  const disagreement = new Chart("Share of System 1's answers that System 2 would contradict, over the threshold", 250, () => common({
    goal: true, scales: { y: { range: tops } }, axes: [axis({ size: 12, values: () => [] }), shares()],
    series: [{}, line("high", "line", { width: 0.5 }), line("low", "line", { width: 0.5 }), line("disagreement", "one", { width: 2 })],
    bands: [{ series: [1, 2], fill: () => ink("one-wash") }],
  }));
  const escalated = new Chart("Share that System 2 would answer, and tokens, over the threshold", 190, () => common({
    scales: { y: { range: [0, 1.02] } }, axes: [axis(), shares()],
    series: [{}, line("to System 2", "two", { width: 2, fill: () => ink("two-wash") }), line("cost", "soft", { dash: [4, 3] })],
  }));
  const element = h("div", {}, h("h3", {}, "System 2 would contradict, of System 1's answers"), disagreement.element,
    h("h3", {}, "System 2 would answer"), escalated.element,
    legend([["s-one", "disagreement, with its 95 % interval"], ["s-bad", "goal"], ["s-two", "share to System 2"], ["k6", "tokens, of always System 2"],
      ["s-ink", "this threshold; dotted: in force; shaded: out of support"]]));

  function clicked(plot) {
    return (event) => {
      const value = plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x");
      pick(Math.round(200 * Math.min(1, Math.max(0, value))) / 200);
    };
  }

  return {
    element,
    draw() {
      const points = state.found.points;
      const column = (read) => points.map(read);
      const xs = column((p) => p.threshold);
      const sound = (p, value) => (p.disagreement === null || p.out_of_support ? null : value);
      disagreement.draw([xs, column((p) => sound(p, p.high)), column((p) => sound(p, p.low)), column((p) => p.disagreement)]);
      escalated.draw([xs, column((p) => p.escalated), column((p) => (p.cost === null ? null : Math.min(1.02, p.cost)))]);
      element.setAttribute("data-summary", `${state.found.n} answers, ${state.found.audits} audited, ${percent(points.at(-1)?.escalated)} at 1`);
    },
    mark() {
      disagreement.redraw();
      escalated.redraw();
    },
    stop() {
      disagreement.stop();
      escalated.stop();
      uPlot.sync(SYNC).plots.length = 0;
    },
  };
}

/** Shade where the log cannot say. */
function outside(plot, found) {
  const step = found.points.length > 1 ? found.points[1].threshold - found.points[0].threshold : 0;
  for (const point of found.points) {
    if (point.out_of_support) shade(plot, Math.max(0, point.threshold - step / 2), Math.min(1, point.threshold + step / 2), "void");
  }
}
