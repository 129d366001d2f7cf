// A clip: its sampled frames on a timeline. It plays from the selected time, as a video or as its frames.

const FRAME_MS = 350;

function Clip({ media, trace, store, frames, turnOf, hot, onHot, onOpen }) {
  const [current, setCurrent] = useState(0);
  const [isPlaying, setPlaying] = useState(false);
  const video = useRef(null);
  const address = media.clip ? store.clip(media.clip) : "";
  const last = frames.at(-1);
  const seek = (index) => {
    setCurrent(index);
    if (video.current && frames[index].time_s !== undefined) video.current.currentTime = frames[index].time_s;
  };
  useEffect(() => {
    if (!isPlaying || address) return undefined;
    const timer = setTimeout(() => {
      if (current + 1 < frames.length) setCurrent(current + 1);
      else setPlaying(false);
    }, FRAME_MS);
    return () => clearTimeout(timer);
  }, [isPlaying, current]);
  const play = () => {
    if (video.current) {
      if (video.current.paused) video.current.play();
      else video.current.pause();
      return;
    }
    if (current + 1 >= frames.length) setCurrent(0);
    setPlaying(!isPlaying);
  };
  const onTime = () => setCurrent(nearestFrame(frames, video.current.currentTime));
  const frame = frames[current];
  return html`<section class="clip" aria-label=${`Clip ${media.name}`}>
    <div class="player">
      ${address
        ? html`<video ref=${video} src=${address} controls muted playsinline preload="metadata" onTimeUpdate=${onTime} aria-label=${media.name}></video>`
        : html`<${Figure} image=${frame.view} store=${store} alt=${`Frame ${frame.frame}`} sizePx=${frame.seen_px}>Frame ${frame.frame} as the model received it, ${formatSize(frame.seen_px)} px<//>`}
      <div class="times">
        <button type="button" onClick=${play}>${isPlaying ? "pause" : "play from here"}</button>
        <span>${frame.time_s === undefined ? `frame ${frame.frame} of ${last.frame}` : `${formatTime(frame.time_s)} of ${formatTime(last.time_s ?? 0)}`}</span>
      </div>
    </div>
    <ol class="timeline">
      ${frames.map((one, index) => html`<${FrameTick} frame=${one} store=${store} turn=${turnOf(one)} isCurrent=${index === current}
        hot=${hot} onHot=${onHot} onSelect=${() => seek(index)} onOpen=${() => onOpen(one)} />`)}
    </ol>
    <p class="legend">${frames.length} frames as the model received them, ${formatSize(frames[0].seen_px)} px each ·
      <span class="key">selected by the model</span> · <span class="key dashed">annotated evidence</span></p>
  </section>`;
}

function FrameTick({ frame, store, turn, isCurrent, hot, onHot, onSelect, onOpen }) {
  const words = [`Frame ${frame.frame}`];
  if (frame.time_s !== undefined) words.push(formatTime(frame.time_s));
  if (turn) words.push(`selected in turn ${turn}`);
  if (frame.is_evidence) words.push("annotated evidence");
  const kind = classes("frame", turn && `selected ${turnClass(turn)}`, frame.is_evidence && "evidence", isCurrent && "current", turn && turn === hot && "hot");
  return html`<li class=${kind}><button type="button" aria-label=${words.join(", ")} aria-pressed=${isCurrent} onClick=${onSelect} onDblClick=${onOpen}
    onPointerEnter=${() => turn && onHot(turn)} onPointerLeave=${() => onHot(0)}>
    <span class="canvas"><${Pixels} image=${frame.view} store=${store} alt="" sizePx=${frame.seen_px} /></span>
    <b>${frame.frame}</b> ${frame.time_s === undefined ? "" : formatTime(frame.time_s)}
  </button></li>`;
}

function nearestFrame(frames, time) {
  let best = 0;
  for (const [index, frame] of frames.entries()) {
    if (Math.abs((frame.time_s ?? 0) - time) < Math.abs((frames[best].time_s ?? 0) - time)) best = index;
  }
  return best;
}
