// Sections of a report: metrics, tables, matrices, charts and texts. A number links to the traces that it counts.

function Sections({ report, onFilter }) {
  const views = { metrics: MetricsView, table: TableView, matrix: MatrixView, charts: ChartsView, text: TextView, html: HtmlView };
  return report.sections.map((section) => {
    const View = views[section.type];
    return View
      ? html`<section class=${`section section-${section.type}`}><h2>${section.title}</h2><${View} section=${section} onFilter=${onFilter} />
          ${section.explanation ? html`<p class="explanation">${section.explanation}</p>` : null}</section>`
      : html`<p class="note">A section of the type ${section.type} needs a newer viewer.</p>`;
  });
}

const DIRECTIONS = { higher: "higher is better", lower: "lower is better" };

function MetricsView({ section, onFilter }) {
  return html`<dl class="metrics">${section.metrics.map((metric) => html`<${MetricView} metric=${metric} onFilter=${onFilter} />`)}</dl>`;
}

function MetricView({ metric, onFilter }) {
  const hasFilter = Object.keys(metric.facets ?? {}).length > 0;
  const { interval } = metric;
  return html`<div class="metric">
    <dt>${metric.name}${metric.better ? html` <small class="direction">${DIRECTIONS[metric.better]}</small>` : null}</dt>
    <dd><span class="value">${formatValue(metric.value, metric.format)}</span>
      ${interval ? html` <span class="interval">${formatValue(interval[0], metric.format)} to ${formatValue(interval[1], metric.format)}</span>
        ${metric.format === "share" ? html`<${IntervalBar} value=${metric.value} interval=${interval} isDifference=${metric.name === "difference"} />` : null}` : null}
      ${metric.explanation ? html`<span class="explanation">${metric.explanation}</span>` : null}
      ${hasFilter ? html`<button type="button" class="plain" onClick=${() => onFilter(metric.facets)}>show these ${word("traces")}</button>` : null}
    </dd>
  </div>`;
}

/** A share and its interval on a line from 0 to 1, or a difference of shares on a line from -1 to 1. */
function IntervalBar({ value, interval, isDifference }) {
  const place = (number) => (isDifference ? (number + 1) / 2 : number);
  const [low, high] = interval.map(place);
  return html`<svg class="interval-bar" aria-hidden="true"><rect class="axis" width="100%" y="4" height="2" />
    ${isDifference ? html`<rect class="axis" x="50%" width="1" height="10" />` : null}
    <rect class="range" x=${percent(low)} width=${percent(Math.max(0.004, high - low))} y="2" height="6" />
    <rect class="point" x=${`calc(${percent(place(value))} - 1px)`} width="2" height="10" /></svg>`;
}

// --- tables ---

function TableView({ section }) {
  const [order, setOrder] = useState(null); // [column, direction]
  const rows = section.rows.map((row, index) => [row, index]);
  if (order) rows.sort(([one, i], [other, j]) => order[1] * compareCells(one[order[0]], other[order[0]]) || i - j);
  const sortBy = (column) => setOrder(order?.[0] === column ? [column, -order[1]] : [column, section.columns[column].format === "text" ? 1 : -1]);
  const direction = (column) => (order?.[0] === column ? (order[1] > 0 ? "ascending" : "descending") : undefined);
  const table = html`<div class="wide" tabindex="0" role="region" aria-label=${section.title}><table>
    <thead><tr>${section.columns.map((column, index) => html`<th scope="col" aria-sort=${direction(index)} class=${column.format === "text" ? "" : "number"}>
      <button type="button" onClick=${() => sortBy(index)} title=${[column.explanation, DIRECTIONS[column.better]].filter(Boolean).join(" ")}>${column.title}
        <span aria-hidden="true">${{ ascending: " ▲", descending: " ▼" }[direction(index)] ?? ""}</span></button></th>`)}</tr></thead>
    <tbody>${rows.map(([row, number]) => html`<tr class=${section.notes?.[number] ? "noted" : ""}>${row.map((cell, index) => html`<${TableCell} cell=${cell} column=${section.columns[index]} isFirst=${index === 0} note=${index === 0 ? section.notes?.[number] : ""} />`)}</tr>`)}</tbody>
  </table></div>`;
  return section.is_folded ? html`<details><summary>show the table</summary>${table}</details>` : table;
}

function TableCell({ cell, column, isFirst, note }) {
  const text = formatValue(cell, column.format);
  if (isFirst) return html`<th scope="row">${text}${note ? html`<small class="not-comparable">${note}</small>` : null}</th>`;
  return html`<td class=${column.format === "text" ? "" : "number"}>${text}</td>`;
}

function compareCells(one, other) {
  const [a, b] = [one, other].map((cell) => (Array.isArray(cell) ? cell[0] : cell));
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
}

function MatrixView({ section, onFilter }) {
  const most = Math.max(...section.cells.flat().map((cell) => cell.value), 1e-9);
  return html`<div class="wide" tabindex="0" role="region" aria-label=${section.title}><table class="matrix">
    <thead><tr><th scope="col">${section.row_title} ╲ ${section.column_title}</th>${section.columns.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
    <tbody>${section.rows.map((name, row) => html`<tr><th scope="row">${name}</th>${section.cells[row].map((cell) => html`<${MatrixCellView} cell=${cell} share=${cell.value / most} onFilter=${onFilter} />`)}</tr>`)}</tbody>
  </table></div>`;
}

function MatrixCellView({ cell, share, onFilter }) {
  const hasFilter = cell.value > 0 && Object.keys(cell.facets ?? {}).length > 0;
  return html`<td class=${cell.kind}><span class="shade" style=${{ opacity: 0.3 * share }}></span>
    ${hasFilter ? html`<button type="button" class="plain" onClick=${() => onFilter(cell.facets)}>${cell.text}</button>` : html`<span>${cell.text}</span>`}</td>`;
}

function TextView({ section }) {
  return html`<p class=${section.is_warning ? "error" : "lead"}>${section.text}</p>`;
}

function HtmlView({ section }) {
  return html`<div class="plugin" dangerouslySetInnerHTML=${{ __html: section.html }}></div>`;
}
