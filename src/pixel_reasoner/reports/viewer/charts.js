// Charts by uPlot. Lines differ by colour and dash, so they can be read in grey. The data are also a table.

const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
const MARKERS = ["solid", "dashed", "dotted", "double"]; // of the legend
const CHART_HEIGHT_PX = 230;
const COLORS = 8;
const MAX_LABEL_CHARS = 16;

function ChartsView({ section, onFilter }) {
  return html`<div class="charts">${section.charts.map((chart) => html`<${ChartView} chart=${chart} onFilter=${onFilter} />`)}</div>`;
}

function ChartView({ chart, onFilter }) {
  const box = useRef(null);
  const scheme = useColorScheme();
  useEffect(() => {
    let plot = drawChart(box.current, chart, onFilter);
    const observer = new ResizeObserver(() => plot.setSize({ width: box.current.clientWidth, height: CHART_HEIGHT_PX }));
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

/** All x of a chart in order, and each series at these x: null is a gap of a line, undefined an x of other series only. */
function alignSeries(chart) {
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
  const { xs, column } = alignSeries(chart);
  const data = [xs];
  const series = [{ label: chart.x_title, value: (plot, x) => (x === null || x === undefined ? "–" : labelOf(chart, x)) }];
  const bands = [];
  for (const one of chart.series) {
    const stroke = seriesColor(one);
    data.push(column(one, one.y));
    series.push({ label: one.name, class: one.is_raw ? "unlabelled" : undefined, stroke, value: (plot, y) => (y === null || y === undefined ? "–" : formatValue(y, "number")), ...lookOf(chart, one, stroke) });
    if (one.low?.length) {
      data.push(column(one, one.high), column(one, one.low));
      const hidden = { stroke: "transparent", points: { show: false }, class: "unlabelled", value: () => "" };
      series.push({ ...hidden }, { ...hidden });
      bands.push({ series: [series.length - 2, series.length - 1], fill: withAlpha(stroke, 0.2) });
    }
  }
  const options = {
    width: box.clientWidth || 320,
    height: CHART_HEIGHT_PX,
    series,
    bands,
    scales: { x: { time: false, range: rangeOfX(chart, xs) }, y: { range: rangeOfY(chart) } },
    axes: [axis(chart.x_title, chart.x_labels?.length ? labelAxis(chart) : {}), axis(chart.y_title, { size: 56, values: (plot, splits) => splits.map(formatTick) })],
    legend: { show: chart.series.length > 1 || chart.kind !== "bars", markers: { dash: (plot, number) => MARKERS[Math.max(0, DASHES.indexOf(series[number].dash))] } },
    cursor: { points: { size: 8 }, dataIdx: nearestValue },
    hooks: { draw: chart.diagonal ? [drawDiagonal] : [] },
  };
  const plot = new window.uPlot(options, data, box);
  if (chart.facet) plot.over.addEventListener("click", () => plot.cursor.idx !== null && onFilter({ [chart.facet]: [labelOf(chart, xs[plot.cursor.idx])] }));
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
  if (chart.kind === "points") return { paths: () => null, points: { show: true, size: 9, fill: stroke } };
  if (one.is_raw) return { width: 1, alpha: 0.35, points: { show: false } };
  return { width: 2, dash: DASHES[(one.dash ?? 0) % DASHES.length], points: { show: one.x.length < 40, size: 5 } };
}

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

const MAX_LEVEL_LABEL_CHARS = 45; // of all labels together, at the width of a phone

function labelAxis(chart) {
  const isLong = chart.x_labels.join("  ").length > MAX_LEVEL_LABEL_CHARS;
  const longest = Math.max(...chart.x_labels.map((label) => label.length));
  const rotated = isLong ? { rotate: 40, size: 30 + 4.5 * Math.min(longest, MAX_LABEL_CHARS) } : {};
  return { ...rotated, splits: () => chart.x_labels.map((label, index) => index), values: (plot, splits) => splits.map((index) => shortened(chart.x_labels[index] ?? "")), grid: { show: false } };
}

function shortened(label) {
  return label.length > MAX_LABEL_CHARS ? `${label.slice(0, MAX_LABEL_CHARS - 1)}…` : label;
}

function rangeOfX(chart, xs) {
  if (chart.x_labels?.length) return [-0.6, chart.x_labels.length - 0.4];
  const [low, high] = [xs[0] ?? 0, xs.at(-1) ?? 1];
  return low === high ? [low - 0.5, high + 0.5] : (plot, from, to) => [from ?? low, to ?? high];
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
  ctx.beginPath();
  ctx.moveTo(plot.valToPos(low, "x", true), plot.valToPos(low, "y", true));
  ctx.lineTo(plot.valToPos(high, "x", true), plot.valToPos(high, "y", true));
  ctx.stroke();
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
