// Keys of the page.

const PAGE_KEYS = [
  ["j, k", "next and previous trace"],
  ["/", "search"],
  ["o", "overview or traces"],
  ["g", "list or grid"],
  ["x", "remove all filters"],
  ["z", "picture view of the first picture"],
  ["?", "this help"],
];

function HelpDialog({ onClose }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  const list = (rows) => html`<dl>${rows.map(([key, words]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${words}</dd></div>`)}</dl>`;
  return html`<dialog class="help" ref=${dialog} onClose=${onClose} aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>${list(PAGE_KEYS)}
    <h3>Picture view</h3>${list(ZOOM_HELP)}
    <p>A filter takes several values: a trace passes with any of them, and it must pass all filters. The address of the page contains filters, search and the open trace.</p>
    <button type="button" onClick=${() => dialog.current.close()}>close</button>
  </dialog>`;
}
