// A running trace: events of the server become the item that the viewer shows.

/** State of an open trace: its job, its traces, and the turn of each that is being generated. */
function openJob(job, numRuns = 1) {
  return {
    id: job.id,
    job,
    question: { id: job.id.slice(0, 8), text: job.question },
    traces: Array.from({ length: numRuns }, () => ({ outcome: "ungraded", stop: "running" })),
    growing: {},
    isRunning: true,
    error: "",
  };
}

/** Return the state after an event. */
function afterEvent(state, type, data) {
  const { run, turn } = data;
  const growing = (parts) => ({ ...state, growing: { ...state.growing, [run]: { number: turn, parts } } });
  const grown = state.growing[run];
  const parts = grown && grown.number === turn ? grown.parts : [];
  if (type === "queued") return { ...openJob(state.job, data.runs), job: state.job };
  if (type === "turn_started") return withTrace(growing([]), run, data.trace);
  if (type === "thought_delta" || type === "text_delta") return growing(withText(parts, type === "text_delta" ? "text" : "thought", data.text));
  if (type === "tool_call") return growing([...parts, { call: { words: data.words } }]);
  if (type === "crop_ready" || type === "turn_done") return withTrace({ ...state, growing: { ...state.growing, [run]: undefined } }, run, data.trace);
  if (type === "finished" || type === "error") {
    const job = { ...state.job, state: data.state, answers: data.answers ?? [] };
    return { ...state, job, growing: {}, isRunning: false, error: data.message ?? "" };
  }
  return state;
}

function withTrace(state, run, trace) {
  if (!trace) return state;
  return { ...state, traces: state.traces.map((one, index) => (index === run ? trace : one)) };
}

function withText(parts, kind, text) {
  const last = parts.at(-1);
  if (last?.[kind] !== undefined) return [...parts.slice(0, -1), { [kind]: last[kind] + text }];
  return text.trim() ? [...parts, { [kind]: text.trimStart() }] : parts;
}

const BOXED_AT_END = /\s*\\boxed\{[^{}]*\}?\.?\s*$/;

/** The item for the viewer, with the turns that are being generated. The answer is shown below the steps, so not as LaTeX too. */
function itemOf(state) {
  const readable = (part) => (part.text === undefined ? part : { ...part, text: part.text.replace(BOXED_AT_END, "") });
  const traces = state.traces.map((trace, run) => {
    const growing = state.growing[run] ? [state.growing[run]] : [];
    const turns = [...(trace.turns ?? []), ...growing].map((turn) => ({ ...turn, parts: turn.parts.map(readable).filter((part) => part.text !== "") }));
    return { ...trace, turns };
  });
  return { number: 0, question: state.question, traces };
}

/** What a screen reader says about an event: steps, not tokens. */
function announcement(type, data) {
  if (type === "turn_started") return `Step ${data.turn} begins.`;
  if (type === "tool_call") return `Step ${data.turn}: ${data.words}.`;
  if (type === "tool_error") return `Step ${data.turn} was rejected: ${data.text}`;
  if (type === "crop_ready") return `Step ${data.turn} returned picture ${data.pictures.join(" and ")}.`;
  if (type === "answer") return `Answer: ${data.answer}`;
  if (type === "error") return `It failed: ${data.message}`;
  if (type === "finished") return data.state === "cancelled" ? "Stopped." : "";
  return "";
}

/** First box that the model looked at in a picture of the question, or null. */
function firstBox(state) {
  for (const picture of state.traces[0]?.pictures ?? []) {
    if (picture.turn && !isWhole(picture.box)) return picture.box;
  }
  return null;
}

/** Area of the intersection of two boxes by that of their union. */
function boxOverlap(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const shared = Math.max(0, width) * Math.max(0, height);
  return shared / (area(one) + area(other) - shared || 1);
}
