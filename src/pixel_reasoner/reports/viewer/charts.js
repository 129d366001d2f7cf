// Charts by uPlot. Lines differ by colour and dash, so they can be read in grey. The data are also a table.

const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
const MARKERS = ["solid", "dashed", "dotted", "double"]; // of the legend
const MARKER_WIDTHS = [2, 2, 2, 4]; // two lines need more than two pixels
const CHART_HEIGHT_PX = 230;
const COLORS = 8;

function ChartsView({ section, onFilter }) {
  return html`<div class="charts">${section.charts.map((chart) => html`<${ChartView} chart=${chart} onFilter=${onFilter} />`)}</div>`;
}

function ChartView({ chart, onFilter }) {
  const box = useRef(null);
  const scheme = useColorScheme();
  useEffect(() => {
    let plot = drawChart(box.current, chart, onFilter);
    const observer = new ResizeObserver(() => plot.setSize({ width: box.current.clientWidth, height: plot.height }));
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      plot.destroy();
      plot = null;
    };
  }, [chart, scheme]);
  return html`<figure class="chart" role="group" aria-label=${chart.title}>
    <figcaption><b>${chart.title}</b>${chart.explanation ? html`<span class="explanation">${chart.explanation}</span>` : null}</figcaption>
    <div class="plot" ref=${box} aria-hidden="true"></div>
    <${ChartTable} chart=${chart} />
  </figure>`;
}

function useColorScheme() {
  const query = useMemo(() => matchMedia("(prefers-color-scheme: dark)"), []);
  const [isDark, setDark] = useState(query.matches);
  useEffect(() => {
    const follow = () => setDark(query.matches);
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, []);
  return isDark;
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function seriesColor(series) {
  return color(`--c${(series.group ?? 0) % COLORS}`);
}

/** Points of a chart by x. Several may have the same x. */
function pointsOf(chart) {
  const points = chart.series.flatMap((one, series) =>
    one.x.map((x, index) => ({ series, x, y: one.y[index], low: one.low?.[index], high: one.high?.[index], size: one.sizes?.[index], label: one.labels?.[index] })),
  );
  return points.filter((one) => one.y !== null).sort((one, other) => one.x - other.x);
}

/** All x of a chart in order, and each series at these x: null is a gap of a line, undefined an x of other series only. */
function alignSeries(chart) {
  if (chart.kind === "points") {
    const points = pointsOf(chart);
    return { xs: points.map((one) => one.x), points, column: (one) => points.map((point) => (chart.series[point.series] === one ? point.y : null)) };
  }
  const xs = [...new Set(chart.series.flatMap((one) => one.x))].sort((a, b) => a - b);
  const at = new Map(xs.map((x, index) => [x, index]));
  const column = (one, values) => {
    const aligned = new Array(xs.length).fill(undefined);
    one.x.forEach((x, index) => {
      aligned[at.get(x)] = values[index] ?? null;
    });
    return aligned;
  };
  return { xs, column };
}

function drawChart(box, chart, onFilter) {
  const { xs, column, points } = alignSeries(chart);
  const data = [xs];
  const series = [{ label: chart.x_title, value: (plot, x, index, at) => (x === null || x === undefined ? "–" : (points?.[at]?.label ?? labelOf(chart, x))) }];
  const bands = [];
  let below = xs.map(() => 0);
  for (const one of chart.series) {
    const stroke = seriesColor(one);
    const values = column(one, one.y);
    if (chart.kind === "areas") {
      below = below.map((sum, index) => sum + (values[index] ?? 0));
      bands.push({ series: [data.length, data.length - 1], fill: withAlpha(stroke, 0.45) });
    }
    data.push(chart.kind === "areas" ? below : values);
    const valueOf = (y, at) => (chart.kind === "areas" ? values[at] : y);
    const format = (plot, y, number, at) => (y === null || y === undefined ? "–" : formatValue(valueOf(y, at), "number"));
    series.push({ label: one.name, class: one.is_raw ? "unlabelled" : undefined, stroke, value: format, ...lookOf(chart, one, stroke) });
    if (one.low?.length && !points) {
      data.push(column(one, one.high), column(one, one.low));
      const hidden = { stroke: "transparent", points: { show: false }, class: "unlabelled", value: () => "" };
      series.push({ ...hidden }, { ...hidden });
      bands.push({ series: [series.length - 2, series.length - 1], fill: withAlpha(stroke, 0.2) });
    }
  }
  if (chart.kind === "areas") {
    series[1].fill = bands.shift().fill; // down to the axis
  }
  const width = box.clientWidth || 320;
  const labels = chart.x_labels?.length ? labelAxis(chart, width) : {};
  const dashOf = (number) => Math.max(0, DASHES.indexOf(series[number].dash));
  const options = {
    width,
    height: CHART_HEIGHT_PX + (labels.size ?? 0),
    series,
    bands,
    scales: { x: { time: false, range: rangeOfX(chart, xs) }, y: { range: rangeOfY(chart) } },
    axes: [axis(chart.x_title, labels), axis(chart.y_title, { size: 56, values: (plot, splits) => splits.map(formatTick) })],
    legend: { show: chart.series.length > 1 || chart.kind !== "bars", markers: { dash: (plot, number) => MARKERS[dashOf(number)], width: (plot, number) => (number ? MARKER_WIDTHS[dashOf(number)] : 0), fill: (plot, number) => (chart.kind === "areas" && number ? withAlpha(series[number].stroke, 0.45) : "transparent") } },
    cursor: points
      ? { points: { show: false }, dataIdx: (plot, index, at) => nearestOf(plot, points, chart.series.length, index) ?? (index ? null : at) }
      : { points: { size: 8 }, dataIdx: nearestValue },
    hooks: { draw: [...(chart.diagonal ? [drawDiagonal] : []), ...(points ? [(plot) => drawPoints(plot, chart, points)] : [])] },
  };
  const plot = new window.uPlot(options, data, box);
  if (chart.facet) {
    plot.over.classList.add("clickable");
    plot.over.addEventListener("click", () => {
      const at = points ? nearestPoint(plot, points, chart.series.length) : plot.cursor.idx;
      if (at !== null) onFilter({ [chart.facet]: [points?.[at].label ?? labelOf(chart, xs[at])] });
    });
  }
  return plot;
}

/** Index of the value of a series that is nearest to an index: a series may have no value at the x of another. */
function nearestValue(plot, number, index) {
  const values = plot.data[number];
  for (let step = 0; number && step < values.length; step += 1) {
    for (const at of [index - step, index + step]) {
      if (values[at] !== undefined) return at;
    }
  }
  return index;
}

function lookOf(chart, one, stroke) {
  if (chart.kind === "bars") return { fill: withAlpha(stroke, 0.75), paths: window.uPlot.paths.bars({ size: [0.8, 60] }), points: { show: false } };
  if (chart.kind === "areas") return { width: 1, points: { show: false } };
  if (chart.kind === "points") return { paths: () => null, points: { show: false } };
  if (one.is_raw) return { width: 1, alpha: 0.35, points: { show: false } };
  return { width: 2, dash: DASHES[(one.dash ?? 0) % DASHES.length], points: { show: one.x.length < 40, size: 5 } };
}

// --- points, with intervals, sizes and names ---

const MAX_POINT_LABELS = 30;
const NEAR_PX = 40;
const SERIES_GAP_PX = 10;

/** Position of a point; those of several series at one category are next to each other. */
function positionOf(plot, point, numSeries, onCanvas) {
  const ratio = onCanvas ? window.uPlot.pxRatio : 1;
  return [plot.valToPos(point.x, "x", onCanvas) + (point.series - (numSeries - 1) / 2) * SERIES_GAP_PX * ratio, plot.valToPos(point.y, "y", onCanvas)];
}

function nearestPoint(plot, points, numSeries) {
  const { left, top } = plot.cursor;
  const distance = (point) => {
    const [x, y] = positionOf(plot, point, numSeries, false);
    return Math.hypot(x - left, y - top);
  };
  let [best, least] = [null, NEAR_PX];
  points.forEach((point, index) => {
    if (distance(point) < least) [best, least] = [index, distance(point)];
  });
  return best;
}

function nearestOf(plot, points, numSeries, index) {
  const at = nearestPoint(plot, points, numSeries);
  return at !== null && (index === 0 || points[at].series === index - 1) ? at : null;
}

function drawPoints(plot, chart, points) {
  const { ctx } = plot;
  const ratio = window.uPlot.pxRatio;
  const largest = Math.max(...points.map((one) => one.size ?? 0), 1);
  const taken = [];
  ctx.save();
  ctx.font = `${11 * ratio}px system-ui`;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  for (const point of points) {
    const [x, y] = positionOf(plot, point, chart.series.length, true);
    const radius = (point.size === undefined || point.low !== undefined ? 4.5 : 3 + 8 * Math.sqrt(point.size / largest)) * ratio;
    const stroke = seriesColor(chart.series[point.series]);
    ctx.strokeStyle = stroke;
    ctx.lineWidth = 1.5 * ratio;
    if (typeof point.low === "number") line(ctx, [x, plot.valToPos(point.low, "y", true)], [x, plot.valToPos(point.high, "y", true)]);
    ctx.fillStyle = withAlpha(stroke, 0.75);
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 2 * Math.PI);
    ctx.fill();
    if (point.label && points.length <= MAX_POINT_LABELS) drawPointLabel(plot, point.label, x, y, radius, taken);
  }
  ctx.restore();
}

/** Write the name of a point where no other name is; all names are in the table below the chart. */
function drawPointLabel(plot, label, x, y, radius, taken) {
  const { ctx, bbox } = plot;
  const ratio = window.uPlot.pxRatio;
  const [width, height, gap] = [ctx.measureText(label).width, 13 * ratio, radius + 3 * ratio];
  const isLeft = x + gap + width > bbox.left + bbox.width;
  const left = isLeft ? x - gap - width : x + gap;
  const box = [left, y - height / 2, left + width, y + height / 2];
  if (left < bbox.left || taken.some((one) => one[0] < box[2] && box[0] < one[2] && one[1] < box[3] && box[1] < one[3])) return;
  taken.push(box);
  ctx.fillStyle = color("--soft");
  ctx.fillText(label, left, y);
}

function line(ctx, from, to) {
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}

// --- axes ---

function axis(title, more) {
  return { label: title, stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") }, font: "12px system-ui", labelFont: "12px system-ui", ...more };
}

function formatTick(value) {
  if (value === null || value === 0) return value === null ? "" : "0";
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e6 ? value.toExponential(1).replace(".0", "") : String(Number(value.toPrecision(4)));
}

function labelOf(chart, x) {
  return chart.x_labels?.[x] ?? formatValue(x, "number");
}

const CHARACTER_PX = 7;
const MAX_LABEL_CHARS = 24;

/** Names without the last word that all of them have, which the title of the axis contains. */
function withoutUnit(names) {
  const unit = names[0].match(/ [a-z]+$/)?.[0];
  return unit && names.length > 1 && names.every((name) => name.endsWith(unit)) ? names.map((name) => name.slice(0, -unit.length)) : names;
}

/** Axis with names, which are slanted where they are too long for the width. */
function labelAxis(chart, width) {
  const names = withoutUnit(chart.x_labels).map((label) => (label.length > MAX_LABEL_CHARS ? `${label.slice(0, MAX_LABEL_CHARS - 1)}…` : label));
  const longest = Math.max(...names.map((name) => name.length));
  const gap = (width - 120) / names.length;
  const isSlanted = names.some((name, index) => index && ((name.length + names[index - 1].length) / 2) * CHARACTER_PX + 8 > gap);
  return {
    splits: () => names.map((name, index) => index),
    values: (plot, splits) => splits.map((index) => names[index] ?? ""),
    grid: { show: false },
    ...(isSlanted ? { rotate: 40, size: 30 + longest * CHARACTER_PX * 0.65 } : {}),
  };
}

function rangeOfX(chart, xs) {
  if (chart.x_labels?.length) return [-0.6, chart.x_labels.length - 0.4];
  const [low, high] = [xs[0] ?? 0, xs.at(-1) ?? 1];
  if (low === high) return [low - 0.5, high + 0.5];
  const gap = chart.kind === "points" ? 0.05 * (high - low) : 0;
  return (plot, from, to) => [(from ?? low) - gap, (to ?? high) + gap];
}

function rangeOfY(chart) {
  return (plot, low, high) => {
    const [bottom, top] = [chart.bottom ?? low ?? 0, chart.top ?? high ?? 1];
    const gap = (top - bottom || 1) * 0.06;
    return [chart.bottom ?? bottom - gap, (chart.top ?? top) + gap];
  };
}

function drawDiagonal(plot) {
  const { ctx } = plot;
  const [low, high] = [Math.max(plot.scales.x.min, plot.scales.y.min), Math.min(plot.scales.x.max, plot.scales.y.max)];
  ctx.save();
  ctx.strokeStyle = color("--soft");
  ctx.setLineDash([4, 4]);
  line(ctx, [plot.valToPos(low, "x", true), plot.valToPos(low, "y", true)], [plot.valToPos(high, "x", true), plot.valToPos(high, "y", true)]);
  ctx.restore();
}

function withAlpha(hex, alpha) {
  return `${hex}${Math.round(alpha * 255).toString(16).padStart(2, "0")}`;
}

// --- the same numbers as a table ---

const MAX_TABLE_ROWS = 200;

function ChartTable({ chart }) {
  const [isOpen, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.currentTarget.open)}><summary>data of this chart</summary>
    ${isOpen ? html`<${ChartRows} chart=${chart} />` : null}</details>`;
}

function ChartRows({ chart }) {
  const rows = chart.series.flatMap((one) => one.x.map((x, index) => ({ one, x, index }))).slice(0, MAX_TABLE_ROWS);
  const hasInterval = chart.series.some((one) => one.low?.length);
  const hasSizes = chart.series.some((one) => one.sizes?.length);
  return html`<div class="wide" tabindex="0" role="region" aria-label=${`data of ${chart.title}`}><table>
    <thead><tr><th scope="col">${chart.x_title}</th>${chart.series.length > 1 ? html`<th scope="col">series</th>` : null}<th scope="col">${chart.y_title}</th>
      ${hasInterval ? html`<th scope="col">${chart.interval}</th>` : null}${hasSizes ? html`<th scope="col">count</th>` : null}</tr></thead>
    <tbody>${rows.map(({ one, x, index }) => html`<tr><th scope="row">${one.labels?.[index] ?? labelOf(chart, x)}</th>
      ${chart.series.length > 1 ? html`<td>${one.name}${one.is_raw ? ", before smoothing" : ""}</td>` : null}<td class="number">${formatValue(one.y[index], "number")}</td>
      ${hasInterval ? html`<td class="number">${formatValue(one.low?.[index], "number")} to ${formatValue(one.high?.[index], "number")}</td>` : null}
      ${hasSizes ? html`<td class="number">${formatValue(one.sizes?.[index], "count")}</td>` : null}</tr>`)}</tbody></table></div>`;
}
