// What is shown: filters, search, order and the open trace. The address of the page contains all of it.

/** Entries with a unique key each: the id of the question, numbered where several traces have the same. */
function withKeys(entries) {
  const counts = new Map();
  return entries.map((entry, number) => {
    const count = (counts.get(entry.id) ?? 0) + 1;
    counts.set(entry.id, count);
    return { ...entry, number, key: count === 1 ? entry.id : `${entry.id}~${count}` };
  });
}

const EMPTY = { tab: "", trace: "", q: "", sort: "", view: "list", filters: {} };

function readState(report) {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const filters = {};
  for (const name of report.filters ?? []) {
    const values = parameters.getAll(name);
    if (values.length) filters[name] = values;
  }
  const value = (name) => parameters.get(name) ?? EMPTY[name];
  return {
    tab: value("tab"),
    trace: value("trace"),
    q: value("q"),
    sort: value("sort"),
    view: value("view"),
    filters,
  };
}

function writeState(state) {
  const parameters = new URLSearchParams();
  for (const name of ["tab", "trace", "q", "sort", "view"]) {
    if (state[name] && state[name] !== EMPTY[name]) parameters.set(name, state[name]);
  }
  for (const [name, values] of Object.entries(state.filters)) {
    for (const value of values) parameters.append(name, value);
  }
  const address = parameters.toString();
  if (address === location.hash.slice(1)) return;
  try {
    history.replaceState(null, "", `#${address}`);
  } catch {
    // A frame in a notebook has no address of its own.
  }
}

/** The state of the page, kept in its address: a change writes both at once, so neither can overwrite a newer one. */
function usePageState(report) {
  const [state, show] = useState(() => readState(report));
  const latest = useRef(state);
  const set = (next) => {
    latest.current = next;
    show(next);
  };
  useEffect(() => {
    const follow = () => set(readState(report));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const change = (changes) => {
    set({ ...latest.current, ...changes });
    writeState(latest.current);
  };
  return [state, change];
}

function hasValue(entry, name, values) {
  return values.some((value) => (entry.facets[name] ?? []).includes(value));
}

/** Entries that pass all filters, and the search if its result is known; sorted. */
function visibleEntries(entries, state, found) {
  const filters = Object.entries(state.filters);
  const shown = entries.filter(
    (entry) =>
      filters.every(([name, values]) => hasValue(entry, name, values)) && (!found || found.has(entry.number)),
  );
  return sorted(shown, state.sort);
}

function sorted(entries, sort) {
  if (!sort) return entries;
  const isDescending = sort.startsWith("-");
  const name = sort.replace(/^-/, "");
  const sign = isDescending ? -1 : 1;
  const value = (entry) => (name === "id" ? entry.id : entry.sizes?.[name]);
  return [...entries].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined); // unknown values last
    const order = typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
    return sign * order || one.number - other.number;
  });
}

/** Number of entries per value of each filter, among those that pass the other filters. */
function countValues(entries, state, names, found) {
  const counts = {};
  for (const name of names) {
    const others = { ...state, filters: { ...state.filters, [name]: [] }, sort: "" };
    delete others.filters[name];
    counts[name] = new Map();
    for (const entry of visibleEntries(entries, others, found)) {
      for (const value of entry.facets[name] ?? []) {
        counts[name].set(value, (counts[name].get(value) ?? 0) + 1);
      }
    }
  }
  return counts;
}

function toggled(filters, name, value) {
  const values = filters[name] ?? [];
  const next = values.includes(value) ? values.filter((one) => one !== value) : [...values, value];
  const rest = { ...filters, [name]: next };
  if (!next.length) delete rest[name];
  return rest;
}

// --- search ---

const MAX_TASK_MS = 12;
const searchTexts = new Map(); // number of an item -> all its text in lower case

function itemText(item) {
  const { question, traces } = item;
  const texts = [question.id, question.text, question.expected, ...(question.options ?? []).map((one) => one[1])];
  for (const trace of traces) {
    texts.push(trace.answered, trace.error, trace.reason, ...(trace.notes ?? []));
    for (const turn of trace.turns ?? []) {
      texts.push(turn.raw);
      for (const part of turn.parts) texts.push(part.thought, part.text, part.call?.words, part.call?.reply);
    }
  }
  return texts.filter(Boolean).join("\n").toLowerCase();
}

/** Numbers of the items with a text, or null without one. It grows while items are read. */
function useSearch(store, count, query) {
  const [found, setFound] = useState(null);
  const [progress, setProgress] = useState(1);
  useEffect(() => {
    const wanted = query.trim().toLowerCase();
    let isCancelled = false;
    if (!wanted) {
      setFound(null);
      setProgress(1);
      return undefined;
    }
    search(store, count, wanted, (numbers, share) => {
      if (isCancelled) return false;
      setFound(numbers);
      setProgress(share);
      return true;
    });
    return () => {
      isCancelled = true;
    };
  }, [query, count]);
  return [found, progress];
}

async function search(store, count, wanted, report) {
  const numbers = new Set();
  let started = performance.now();
  for (let number = 0; number < count; number += 1) {
    if (!searchTexts.has(number)) {
      const item = await store.item(number);
      searchTexts.set(number, item ? itemText(item) : "");
    }
    if (searchTexts.get(number).includes(wanted)) numbers.add(number);
    if (performance.now() - started > MAX_TASK_MS) {
      if (!report(new Set(numbers), (number + 1) / count)) return;
      await yieldToBrowser();
      started = performance.now();
    }
  }
  report(numbers, 1);
}
