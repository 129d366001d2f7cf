// Requests to the server. Keys are kept in memory only. The key of this server is sent as a header, so pictures become blob addresses.

const RETRY_MS = [300, 1000, 3000, 5000];

class RequestError extends Error {
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

function createApi() {
  let key = "";
  let connection = ""; // secret id of a connected model
  const blobs = new Map(); // path -> blob address
  const headers = (extra = {}) => (key ? { ...extra, Authorization: `Bearer ${key}` } : extra);
  const connectionHeader = () => (connection ? { "Pixel-Reasoner-Connection": connection } : {});

  async function request(path, options = {}) {
    let reply;
    try {
      reply = await fetch(path, { ...options, headers: headers(options.headers), credentials: "omit", cache: "no-cache" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new RequestError(0, "The server does not answer. Is it still running?");
    }
    if (reply.ok) return reply;
    const body = await reply.json().catch(() => ({}));
    throw new RequestError(reply.status, body.error?.message ?? `The server replied with status ${reply.status}.`, body.error?.code);
  }

  const json = async (path, options) => (await request(path, options)).json();
  const blob = async (path) => URL.createObjectURL(await (await request(path)).blob());

  return {
    json,
    setKey(value) {
      key = value;
    },
    hasKey: () => Boolean(key),
    post: (path, body = {}) => json(path, { method: "POST", headers: { "Content-Type": "application/json", ...connectionHeader() }, body: JSON.stringify(body) }),
    remove: (path) => json(path, { method: "DELETE", headers: connectionHeader() }),
    setConnection(id) {
      connection = id;
    },
    async upload(file) {
      const form = new FormData();
      form.append("file", file, "file");
      return (await json("/v1/files", { method: "POST", body: form })).id;
    },
    async file(path) {
      return (await request(path)).blob();
    },
    /** Fetch pictures in advance if they need the key. */
    async load(paths) {
      if (!key) return;
      const missing = [...new Set(paths)].filter((path) => !blobs.has(path));
      await Promise.all(missing.map(async (path) => blobs.set(path, await blob(path).catch(() => ""))));
    },
    src: (path) => (key ? blobs.get(path) ?? "" : path),
    /** Call `onEvent(type, data)` for every event of a trace, also after a lost connection, until the last one. */
    async events(id, onEvent, signal) {
      let last = 0;
      for (let failures = 0; !signal.aborted; ) {
        try {
          const reply = await request(`/v1/traces/${id}/events`, { signal, headers: last ? { "Last-Event-ID": String(last) } : {} });
          for await (const event of readEvents(reply.body)) {
            failures = 0;
            last = event.id;
            await onEvent(event.type, event.data);
            if (event.type === "finished" || event.type === "error") return;
          }
        } catch (error) {
          if (signal.aborted) return;
          if (error.status && error.status < 500) throw error;
          if (failures >= RETRY_MS.length) throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
        failures += 1;
      }
    },
  };
}

/** Parse server-sent events. */
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event = { id: 0, type: "", data: null };
        for (const line of text.slice(0, end).split("\n")) {
          if (line.startsWith("id: ")) event.id = Number(line.slice(4));
          else if (line.startsWith("event: ")) event.type = line.slice(7);
          else if (line.startsWith("data: ")) event.data = JSON.parse(line.slice(6));
        }
        text = text.slice(end + 2);
        if (event.data) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The store that the viewer reads pictures from. */
function traceStore(api, id) {
  const path = (ref) => `/v1/traces/${id}/pictures/${ref}`;
  return { src: (ref) => api.src(path(ref)), clip: (name) => api.src(path(name)), path };
}

function refsOf(item) {
  const refs = [];
  for (const trace of item.traces) {
    for (const one of trace.media ?? []) if (one.clip) refs.push(one.clip);
    for (const one of trace.sources ?? []) refs.push(one.image.ref);
    for (const one of trace.pictures ?? []) refs.push(one.view.ref);
  }
  return refs.filter(Boolean);
}
