// Plays a recording. The server has drawn it: what comes are rows of text with their looks, and texts are only ever set as texts.
"use strict";

const player = document.getElementById("player");
const screen = document.getElementById("screen");
const stands = document.getElementById("stands");
if (player && screen) {
  if (player.dataset.live && window.EventSource) watch(player.dataset.live);
  else replay(player.dataset.frames);
}

// A row becomes spans. A colour is one of `#rrggbb`, or it is none.
function fill(line, spans) {
  const COLOUR = /^#[0-9a-f]{6}$/;
  line.replaceChildren(...spans.map((span) => {
    const made = document.createElement("span");
    made.textContent = span.t;
    if (COLOUR.test(span.f || "")) made.style.color = span.f;
    if (COLOUR.test(span.b || "")) made.style.backgroundColor = span.b;
    for (const flag of span.s || "") if ("bdiu".includes(flag)) made.classList.add("look-" + flag);
    return made;
  }));
}

function draw(frame) {
  const [, rows] = frame.size;
  while (screen.children.length > rows) screen.lastChild.remove();
  while (screen.children.length < rows) { const line = document.createElement("div"); line.dir = "ltr"; screen.append(line); }
  for (const [at, spans] of Object.entries(frame.rows)) if (screen.children[at]) fill(screen.children[at], spans);
}

function note(one) {
  const notes = document.getElementById("notes");
  const line = document.createElement("li");
  const word = one.typed === undefined ? "" : "typed: ";
  // Keys that are no text are spelt out.
  const text = (one.typed === undefined ? one.mark : one.typed)
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (c) => c === "\r" ? "⏎" : "\\u{" + c.codePointAt(0).toString(16) + "}");
  line.textContent = clock(one.at) + "  " + word + text;
  notes.append(line);
  while (notes.children.length > 2000) notes.firstElementChild.remove();
  return line;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return Math.floor(whole / 60) + ":" + String(whole % 60).padStart(2, "0");
}

function watch(address) {
  const source = new EventSource(address);
  const say = (text) => { stands.textContent = text; };
  source.addEventListener("screen", (event) => { say("Live."); draw(JSON.parse(event.data)); });
  source.addEventListener("lines", (event) => {
    for (const one of JSON.parse(event.data)) if (one.rows) draw(one); else note(one);
  });
  source.addEventListener("error", () => say("Not live: the connection is lost."));
  source.addEventListener("end", (event) => {
    source.close();
    let detail = "it is over";
    try { detail = JSON.parse(event.data).detail; } catch { /* it is over */ }
    say("Not live any more: " + detail + ". Load the page again to play it.");
  });
}

async function replay(address) {
  const frames = [];
  let end = null;
  stands.textContent = "Loading…";
  const answer = await fetch(address);
  if (!answer.ok || !answer.body) { stands.textContent = "It can't be loaded (" + answer.status + ")."; return; }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const one = JSON.parse(line);
      if (one.end) end = one;
      else if (one.rows) frames.push(one);
      else { const made = note(one); made.addEventListener("click", () => seek(one.at)); }
    }
  }
  stands.textContent = says(end);
  if (end && end.end === "fault") stands.classList.add("fault");
  if (frames.length === 0) return;

  const get = (id) => document.getElementById(id);
  const [play, bar, time, speed, find, found] = ["play", "seek", "time", "speed", "find", "found"].map(get);
  const last = frames[frames.length - 1].at;
  bar.max = String(last);
  get("controls").hidden = false;
  let at = 0, shown = -1, playing = false, since = 0;

  // Draws the newest frame that is not after that time: from a whole one on, where it is not the next one.
  function seek(to) {
    at = Math.min(Math.max(to, 0), last);
    let low = 0, high = frames.length - 1;
    while (low < high) { const middle = (low + high + 1) >> 1; if (frames[middle].at <= at) low = middle; else high = middle - 1; }
    if (low !== shown) {
      let from = low;
      if (shown >= 0 && low > shown && low - shown < 100) from = shown + 1;
      else while (from > 0 && !frames[from].whole) from--;
      for (let n = from; n <= low; n++) draw(frames[n]);
      shown = low;
    }
    bar.value = String(at);
    time.textContent = clock(at) + " / " + clock(last);
  }
  function tick(now) {
    if (!playing) return;
    // Nobody waits for longer than two seconds where nothing happens.
    const next = frames[shown + 1];
    let to = at + (now - since) / 1000 * Number(speed.value);
    if (next && next.at - at > 2 * Number(speed.value)) to = Math.max(to, next.at - 2 * Number(speed.value));
    since = now;
    seek(to);
    if (at >= last) { playing = false; play.textContent = "Play"; return; }
    requestAnimationFrame(tick);
  }
  play.addEventListener("click", () => {
    playing = !playing;
    play.textContent = playing ? "Pause" : "Play";
    if (playing) { if (at >= last) { seek(0); } since = performance.now(); requestAnimationFrame(tick); }
  });
  bar.addEventListener("input", () => seek(Number(bar.value)));
  screen.addEventListener("keydown", (event) => {
    if (event.key === " ") { event.preventDefault(); play.click(); }
    if (event.key === "ArrowRight") seek(at + 5);
    if (event.key === "ArrowLeft") seek(at - 5);
  });
  function next() {
    const text = find.value.toLowerCase();
    if (!text) return;
    const has = (frame) => Object.values(frame.rows).some((spans) => spans.map((span) => span.t).join("").toLowerCase().includes(text));
    for (let step = 1; step <= frames.length; step++) {
      const n = (shown + step) % frames.length;
      if (has(frames[n])) { found.textContent = "at " + clock(frames[n].at); seek(frames[n].at); return; }
    }
    found.textContent = "nowhere";
  }
  get("next").addEventListener("click", next);
  find.addEventListener("keydown", (event) => { if (event.key === "Enter") next(); });
  seek(0);
}

function says(end) {
  if (!end) return "It was cut on its way here. Load the page again.";
  if (end.end === "fault") return "NOT WHAT WAS RECORDED: " + end.text + ". Only what is before that is shown.";
  if (end.end === "long") return end.text;
  const proven = "Its " + end.chunks + " chunks are those of the audit trail. ";
  if (!end.seal) return proven + "It has no end yet.";
  return proven + (end.seal.complete ? "" : "IT IS NOT COMPLETE: ") + end.seal.end + (end.seal.cut ? "; " + end.seal.cut.bytes + " bytes over its limit are not in it" : "") + ".";
}
