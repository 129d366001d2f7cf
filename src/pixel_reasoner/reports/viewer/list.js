// The list of traces: filters, search, order, and a list or grid in which only visible rows exist.

const ROW_PX = 66;
const CELL_PX = 176;
const MIN_CELL_WIDTH_PX = 150;
const OVERSCAN_ROWS = 4;

function Filters({ report, entries, state, setState, found, progress, count, searchBox }) {
  const names = report.filters ?? [];
  const counts = useMemo(() => countValues(entries, state, names, found), [entries, state.filters, found]);
  const sortNames = useMemo(() => [...new Set(entries.flatMap((entry) => Object.keys(entry.sizes ?? {})))].sort(), [entries]);
  const active = Object.entries(state.filters).flatMap(([name, values]) => values.map((value) => [name, value]));
  const set = (name, value) => setState({ filters: toggled(state.filters, name, value) });
  return html`<form class="filters" role="search" aria-label="Filter traces" onSubmit=${(event) => event.preventDefault()}>
    <div class="outcomes" role="group" aria-label="outcome">
      ${OUTCOMES.filter((one) => entries.some((entry) => entry.outcome === one)).map(
        (one) => html`<button type="button" class=${classes("chip", one)} aria-pressed=${(state.filters.outcome ?? []).includes(one)} onClick=${() => set("outcome", one)}>
          <span aria-hidden="true">${SIGNS[one]}</span> ${word(one)} <b>${counts.outcome?.get(one) ?? 0}</b></button>`,
      )}
    </div>
    <input ref=${searchBox} type="search" name="q" value=${state.q} placeholder="search questions, reasoning, answers" aria-label="search the text of all traces"
      autocomplete="off" onInput=${(event) => setState({ q: event.target.value })} />
    <div class="row">
      <label>sort <select value=${state.sort} onChange=${(event) => setState({ sort: event.target.value })} aria-label="sort by">
        <option value="">order of the report</option><option value="id">id</option>
        ${sortNames.map((name) => html`<option value=${`-${name}`}>${name}, largest first</option><option value=${name}>${name}, smallest first</option>`)}
      </select></label>
      <button type="button" aria-pressed=${state.view === "grid"} onClick=${() => setState({ view: state.view === "grid" ? "list" : "grid" })}>grid</button>
    </div>
    <details class="more"><summary>all filters</summary>
      ${names.filter((name) => counts[name]?.size || state.filters[name]).map((name) => html`<${FilterGroup} name=${name} counts=${counts[name]} values=${state.filters[name] ?? []} onToggle=${set} />`)}
    </details>
    ${active.length || state.q
      ? html`<p class="active">${active.map(
          ([name, value]) => html`<button type="button" onClick=${() => set(name, value)} aria-label=${`remove the filter ${inWords(name)}: ${word(value)}`}>${inWords(name)}: ${word(value)} <span aria-hidden="true">×</span></button>`,
        )} <button type="button" class="plain" onClick=${() => setState({ filters: {}, q: "" })}>show all</button></p>`
      : null}
    <p class="count" role="status">${count.toLocaleString("en")} of ${entries.length.toLocaleString("en")}${progress < 1 ? `, ${Math.round(100 * progress)} % searched` : ""}</p>
  </form>`;
}

function FilterGroup({ name, counts, values, onToggle }) {
  const all = [...new Set([...(counts?.keys() ?? []), ...values])].sort((one, other) => one.localeCompare(other, undefined, { numeric: true }));
  return html`<fieldset><legend>${inWords(name)}</legend>
    ${all.map((value) => html`<label><input type="checkbox" checked=${values.includes(value)} onChange=${() => onToggle(name, value)} /> <span>${name === "outcome" ? word(value) : value}</span> <b>${counts?.get(value) ?? 0}</b></label>`)}
  </fieldset>`;
}

// --- rows ---

function TraceList({ entries, state, store, onSelect }) {
  const isGrid = state.view === "grid";
  const box = useRef(null);
  const [top, setTop] = useState(0);
  const size = useSize(box);
  const columns = isGrid ? Math.max(1, Math.floor(size.width / MIN_CELL_WIDTH_PX)) : 1;
  const height = isGrid ? CELL_PX : ROW_PX;
  const rows = Math.ceil(entries.length / columns);
  const first = clamp(Math.floor(top / height) - OVERSCAN_ROWS, 0, rows);
  const last = clamp(Math.ceil((top + size.height) / height) + OVERSCAN_ROWS, 0, rows);
  const selected = entries.findIndex((entry) => entry.key === state.trace);
  useScrollIntoView(box, selected < 0 ? -1 : Math.floor(selected / columns), height, size.height);
  const shown = entries.slice(first * columns, last * columns);
  return html`<div class=${classes("rows", isGrid && "grid")} ref=${box} tabindex="0" role="listbox" aria-label="traces"
      aria-activedescendant=${selected >= first * columns && selected < last * columns ? `row-${entries[selected].number}` : undefined}
      onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
    <div class="spacer" style=${{ height: `${rows * height}px` }} role="presentation">
      ${shown.map((entry, index) => {
        const at = first * columns + index;
        const place = { transform: `translate(${100 * (at % columns)}%, ${Math.floor(at / columns) * height}px)`, width: `${100 / columns}%`, height: `${height}px` };
        return html`<${isGrid ? GridCell : ListRow} key=${entry.number} entry=${entry} place=${place} store=${store} isSelected=${at === selected}
          position=${at + 1} count=${entries.length} onSelect=${() => onSelect(entry.key)} />`;
      })}
    </div>
    ${entries.length ? null : html`<p class="empty">No trace passes these filters.</p>`}
  </div>`;
}

function useSize(box) {
  const [size, setSize] = useState({ width: 320, height: 800 });
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => setSize({ width: box.current.clientWidth, height: box.current.clientHeight }));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return size;
}

/** Scroll a row into view when it becomes the selected one. */
function useScrollIntoView(box, row, height, visible) {
  useEffect(() => {
    if (row < 0) return;
    const { scrollTop } = box.current;
    if (row * height < scrollTop) box.current.scrollTop = row * height;
    if ((row + 1) * height > scrollTop + visible) box.current.scrollTop = (row + 1) * height - visible;
  }, [row, height, visible]);
}

function rowProps({ entry, place, isSelected, position, count, onSelect }) {
  return {
    id: `row-${entry.number}`,
    role: "option",
    "aria-selected": isSelected,
    "aria-posinset": position,
    "aria-setsize": count,
    style: place,
    onClick: onSelect,
  };
}

function Thumbnail({ entry, store }) {
  return entry.thumbnail
    ? html`<img src=${store.src(entry.thumbnail)} alt="" decoding="async" />`
    : html`<span class="no-picture" aria-hidden="true">–</span>`;
}

function Signs({ entry }) {
  const outcomes = entry.outcomes?.length ? entry.outcomes : [entry.outcome];
  return html`<span class="signs">${outcomes.map((one) => html`<span class=${classes("sign", one)} role="img" aria-label=${word(one)}>${SIGNS[one] ?? "–"}</span>`)}</span>`;
}

function ListRow(props) {
  const { entry, store } = props;
  const calls = entry.sizes?.operations ?? 0;
  const hasModel = entry.facets.operations?.length !== 0;
  return html`<div class="row" ...${rowProps(props)}>
    <${Thumbnail} entry=${entry} store=${store} />
    <div class="words"><p class="question">${entry.text}</p>
      <p class="answer"><${Signs} entry=${entry} /> ${entry.answered ?? "no answer"} ${hasModel ? html`<span class="soft">· ${calls} ${calls === 1 ? "operation" : "operations"}</span>` : null}</p></div>
  </div>`;
}

function GridCell(props) {
  const { entry, store } = props;
  return html`<div class="cell" ...${rowProps(props)}>
    <${Thumbnail} entry=${entry} store=${store} />
    <p class="answer"><${Signs} entry=${entry} /> ${entry.answered ?? "no answer"}</p><p class="question">${entry.text}</p>
  </div>`;
}
