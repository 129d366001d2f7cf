// Lesson mode: a generated lesson of a level, or a lesson.html that `pixel-reasoner teach` wrote.

const LEVEL_WORDS = ["large details", "small details", "compare and count", "pages and clips", "tiny details of all kinds"];
const LESSON_BLOCK = /<script type="application\/json" id="lesson">(.*?)<\/script>/s;
const NUM_LESSON_SEEDS = 1000;

/** The lesson in a page. It is data: nothing in the page runs. */
function lessonOfPage(text) {
  try {
    const lesson = JSON.parse(LESSON_BLOCK.exec(text)[1]);
    const isPicture = (address) => /^data:image\/(png|jpeg);base64,/.test(address);
    if (lesson.steps.length && Object.values(lesson.pictures).every(isPicture)) return lesson;
  } catch { /* another file */ }
  throw new Error("This is no lesson. Choose the file learners/lesson.html that pixel-reasoner teach wrote.");
}

function LessonDialog({ api, onLesson, onClose }) {
  const dialog = useRef(null);
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  useEffect(() => dialog.current.showModal(), []);
  const open = async (load) => {
    setBusy(true);
    setProblem("");
    try {
      onLesson(await load());
    } catch (error) {
      setBusy(false);
      setProblem(error.message);
    }
  };
  const generate = (level) => api.json(`/v1/lessons/${level}?seed=${Math.floor(NUM_LESSON_SEEDS * Math.random())}`);
  return html`<dialog class="connect" ref=${dialog} onClose=${onClose} aria-labelledby="lesson-title"><h2 id="lesson-title">Open a lesson</h2>
    <p class="soft">Guess where to look, see where the model looked, explain why. Each click gives other exercises.</p>
    <div class="levels">${LEVEL_WORDS.map((words, index) => html`<button type="button" disabled=${isBusy} onClick=${() => open(() => generate(index + 1))}>
      <b>Level ${index + 1}</b> ${words}</button>`)}</div>
    <label><span>Or a lesson.html of your own <small>written by <code>pixel-reasoner teach</code></small></span>
      <input type="file" accept=".html,text/html" disabled=${isBusy} onChange=${(event) => event.target.files[0] && open(async () => lessonOfPage(await event.target.files[0].text()))} /></label>
    <div class="buttons"><button type="button" onClick=${() => dialog.current.close()}>close</button></div>
    <p role="status" class="soft">${isBusy ? "The lesson is being made …" : ""}</p>
    ${problem ? html`<p class="error" role="alert">${problem}</p>` : null}</dialog>`;
}
