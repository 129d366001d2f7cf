// The page: header, overview, and the list of traces next to the open one.

function App({ store }) {
  const { report } = store;
  const entries = useMemo(() => withKeys(report.entries ?? []), [report]);
  const [state, setState] = usePageState(report);
  const [found, progress] = useSearch(store, entries.length, state.q);
  const [isHelp, setHelp] = useState(false);
  const searchBox = useRef(null);
  const shown = useMemo(() => visibleEntries(entries, state, found), [entries, state.filters, state.sort, found]);
  const hasSections = report.sections.length > 0;
  const tab = state.tab || (state.trace || !hasSections ? "traces" : "overview");
  const select = (key) => setState({ trace: key, tab: "traces" });
  const filter = (facets) => setState({ filters: { ...facets }, q: "", tab: "traces", trace: "" });
  useKeys({ shown, state, setState, select, searchBox, tab, setHelp, hasSections });
  useRefresh(report, isHelp);
  return html`<div class=${classes("page", entries.length === 1 && !hasSections && "single")}>
    <${Header} report=${report} entries=${entries} tab=${tab} setState=${setState} onFilter=${filter} onHelp=${() => setHelp(true)} hasSections=${hasSections} />
    ${tab === "overview"
      ? html`<main class="overview" tabindex="-1"><${Overview} report=${report} onFilter=${filter} /></main>`
      : html`<${Traces} ...${{ store, report, entries, shown, state, setState, found, progress, searchBox, select }} />`}
    ${isHelp ? html`<${HelpDialog} onClose=${() => setHelp(false)} />` : null}
  </div>`;
}

function Header({ report, entries, tab, setState, onFilter, onHelp, hasSections }) {
  const button = (name, label) => html`<button type="button" aria-current=${tab === name ? "page" : undefined} onClick=${() => setState({ tab: name })}>${label}</button>`;
  return html`<header class="top">
    <h1>${report.title}</h1>
    ${entries.length > 1 || hasSections
      ? html`<nav aria-label="parts of the report">
          ${hasSections ? button("overview", "overview") : null}
          ${hasSections && entries.length ? button("traces", `${word("traces")} ${entries.length.toLocaleString("en")}`) : null}
          <button type="button" class="help-button" onClick=${onHelp} aria-label="keys">?</button></nav>`
      : null}
    ${entries.length > 1 ? html`<${OutcomeBar} entries=${entries} onFilter=${onFilter} />` : null}
  </header>`;
}

/** Shares of the outcomes as one bar; each part shows its traces. */
function OutcomeBar({ entries, onFilter }) {
  const counts = OUTCOMES.map((outcome) => [outcome, entries.filter((entry) => entry.outcome === outcome).length]).filter(([, count]) => count);
  return html`<div class="bar" role="group" aria-label="outcomes">${counts.map(
    ([outcome, count]) => html`<button type="button" class=${outcome} style=${{ flexGrow: count }} onClick=${() => onFilter({ outcome: [outcome] })}
      title=${`${count} ${word(outcome)}`} aria-label=${`show ${count} ${word(outcome)}`}></button>`,
  )}</div>`;
}

function Overview({ report, onFilter }) {
  return html`${report.facts?.length ? html`<dl class="facts-list">${report.facts.map((one) => html`<div title=${one.explanation}><dt>${one.name}</dt><dd>${one.value}</dd></div>`)}</dl>` : null}
    ${(report.warnings ?? []).map((text) => html`<p class="note">${text}</p>`)}
    <${Sections} report=${report} onFilter=${onFilter} />
    <${Settings} report=${report} />
    <footer>${report.made_by}</footer>`;
}

function Settings({ report }) {
  if (!report.settings?.length) return null;
  return html`<section class="section settings"><h2>Settings</h2><details><summary>${report.settings.length} settings that determine the numbers</summary>
    <div class="wide" tabindex="0" role="region" aria-label="settings"><table><tbody>${report.settings.map((one) => html`<tr><th scope="row">${one.name}</th><td>${one.value}</td></tr>`)}</tbody></table></div></details></section>`;
}

function Traces({ store, report, entries, shown, state, setState, found, progress, searchBox, select }) {
  const open = shown.find((entry) => entry.key === state.trace) ?? entries.find((entry) => entry.key === state.trace);
  const isSingle = entries.length === 1;
  const current = open ?? (isSingle || matchMedia("(min-width: 60rem)").matches ? shown[0] : undefined);
  return html`<main class=${classes("traces", current && state.trace && "has-open", isSingle && "alone")}>
    ${isSingle
      ? null
      : html`<div class="side">
          <${Filters} ...${{ report, entries, state, setState, found, progress, searchBox }} count=${shown.length} />
          <${TraceList} entries=${shown} state=${current && !state.trace ? { ...state, trace: current.key } : state} store=${store} onSelect=${select} />
        </div>`}
    <div class="detail" tabindex="-1">
      ${isSingle ? (report.warnings ?? []).map((text) => html`<p class="note">${text}</p>`) : html`<button type="button" class="back" onClick=${() => setState({ trace: "" })}>← all ${word("traces")}</button>`}
      ${current ? html`<${OpenItem} key=${current.number} entry=${current} store=${store} position=${isSingle ? "" : `${shown.indexOf(current) + 1 || "–"} of ${shown.length}`} />` : html`<p class="empty">${entries.length ? "Select a trace." : "This report contains no traces."}</p>`}
      ${isSingle ? html`<${Settings} report=${report} />` : null}
    </div>
  </main>`;
}

function OpenItem({ entry, store, position }) {
  const [item, setItem] = useState(undefined);
  const root = useRef(null);
  useEffect(() => {
    let isCurrent = true;
    store.item(entry.number).then((found) => isCurrent && setItem(found));
    root.current.closest(".detail").scrollTop = 0;
    return () => {
      isCurrent = false;
    };
  }, [entry.number]);
  let content = html`<p class="loading">Loading …</p>`;
  if (item === null) content = html`<p class="error">The part of this report that contains the trace ${entry.id} is missing. Copy the folder of the report completely.</p>`;
  else if (item) content = html`<${ItemView} item=${item} store=${store} entry=${entry} position=${position} />`;
  return html`<div ref=${root}>${content}</div>`;
}

// --- keys and refresh ---

function useKeys({ shown, state, setState, select, searchBox, tab, setHelp, hasSections }) {
  useEffect(() => {
    const move = (step) => {
      if (!shown.length) return;
      const at = shown.findIndex((entry) => entry.key === state.trace);
      select(shown[clamp(at < 0 ? (step > 0 && tab === "traces" && !state.trace ? 1 : 0) : at + step, 0, shown.length - 1)].key);
    };
    const actions = {
      j: () => move(1),
      k: () => move(-1),
      ArrowDown: (event) => event.target.closest?.(".rows") && move(1),
      ArrowUp: (event) => event.target.closest?.(".rows") && move(-1),
      "/": () => {
        setState({ tab: "traces" });
        setTimeout(() => searchBox.current?.focus());
      },
      "?": () => setHelp(true),
      o: () => hasSections && setState({ tab: tab === "overview" ? "traces" : "overview" }),
      g: () => setState({ view: state.view === "grid" ? "list" : "grid" }),
      x: () => setState({ filters: {}, q: "" }),
      z: () => document.querySelector(".detail .open")?.click(),
    };
    const onKeyDown = (event) => {
      const { target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest?.("dialog")) return;
      if (target.closest?.("input, select, textarea, video")) {
        if (event.key === "Escape") target.blur();
        return;
      }
      if (!actions[event.key]) return;
      if (actions[event.key](event) !== null) event.preventDefault();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  });
}

/** Load a report of a running job again. */
function useRefresh(report, isBusy) {
  useEffect(() => {
    if (!report.refresh_s || isBusy) return undefined;
    const timer = setInterval(() => {
      if (!document.hidden && !document.querySelector("dialog[open]")) location.reload();
    }, 1000 * report.refresh_s);
    return () => clearInterval(timer);
  }, [isBusy]);
}

function start() {
  const root = document.getElementById("app");
  const store = openStore();
  setVocabulary(store.report.words);
  const isNewer = (store.report.format_version ?? 1) > 1;
  root.textContent = "";
  render(isNewer ? html`<p class="error">This report has a newer format. Open it with the program that wrote it.</p>` : html`<${App} store=${store} />`, root);
  // Pictures of a page that is still loading follow when they are there.
  pageLoaded().then(() => isNewer || render(html`<${App} store=${store} />`, root));
}

start();
