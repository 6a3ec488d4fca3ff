"use strict";
// Text from elsewhere (prompts, names, messages) is inserted as text, never as markup.

const at = (id) => document.getElementById(id);
const SECTIONS = ["welcome", "rate", "thanks"];
const PAUSE_BETWEEN_PLAYS_MS = 700;
const WORDS = {
  coherence: {
    asked: ["Coherence", "Do objects keep their shape and move without jumps, flicker or melting?"],
    pair: "Which one is more coherent?",
    single: "How coherent is it?",
    hint: "stable shapes; no jumps, flicker or melting",
    ends: ["not at all", "perfectly"],
  },
  relevance: {
    asked: ["Relevance", "Does the video show what the caption says?"],
    pair: "Which one matches the caption better?",
    single: "How well does it match the caption?",
    hint: "the right objects and the right motion",
    ends: ["not at all", "perfectly"],
  },
  first_frame: {
    asked: ["Fidelity", "Do objects and background stay as in the first frame, apart from the motion in the caption?"],
    pair: "Which one is more faithful to the first frame?",
    single: "How faithful is it to the first frame?",
    hint: "the same objects, colours and background",
    ends: ["not at all", "perfectly"],
  },
};
const KEYS = {
  pair: "A or left arrow: the left video. B or right arrow: the right video. T or 0: no difference. Up and down: change question. " +
    "Enter: save. R: play again. Space: pause. Z: undo the last answer.",
  single: "1 to 5: answer. Up and down: change question. Enter: save. R: play again. Space: pause. Z: undo the last answer.",
};
const BY_KEY = {
  pair: { a: -1, arrowleft: -1, t: 0, 0: 0, b: 1, arrowright: 1 },
  single: { 1: 1, 2: 2, 3: 3, 4: 4, 5: 5 },
};
const CHOICES = {
  pair: [[-1, "A", "A, the left video"], [0, "Tie", "no difference"], [1, "B", "B, the right video"]],
  single: [1, 2, 3, 4, 5].map((value) => [value, String(value), String(value)]),
};

let state = null;
let here = 0; // the question that a key answers
let shownAt = 0;
let busy = false;
let playing = 0; // number of the current playback; timers of earlier ones do nothing

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function notify(text) {
  at("notice").textContent = text;
  at("notice").hidden = !text;
}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached. Your saved answers are kept. Please try again.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error || "Something went wrong; please load the page again.");
  return content;
}

// Sends a request and shows the next page; input in between is ignored.
async function send(path, body) {
  if (busy) return;
  busy = true;
  update();
  try {
    show(await ask(path, body));
    notify("");
  } catch (error) {
    notify(error.message);
  } finally {
    busy = false;
    update();
  }
}

function show(next) {
  state = next;
  document.title = state.title;
  const section = !state.rater ? "welcome" : state.page ? "rate" : "thanks";
  for (const id of SECTIONS) at(id).hidden = id !== section;
  at("bar").hidden = section === "welcome";
  if (section === "welcome") return showWelcome();
  at("count").textContent = `${state.done} of ${state.total} done`;
  Object.assign(at("progress"), { max: state.total, value: state.done });
  at("who").textContent = state.rater;
  if (section === "thanks") {
    stopVideos();
    at("summary").textContent = `All ${state.total} answers are saved. You can close this page.`;
    return undefined;
  }
  return showPage();
}

function showWelcome() {
  document.querySelector(".title").textContent = state.title;
  const what = state.kind === "pair" ? "two videos side by side" : "one video at a time";
  const how = state.kind === "pair" ? "choose the better one" : "rate it from 1 to 5";
  at("explain").textContent = `You will see ${what}, generated from a caption and a first frame. Watch, then ${how} for:`;
  at("asked").replaceChildren(...state.questions.map((name) => element("li", {}, element("b", {}, `${WORDS[name].asked[0]}. `), WORDS[name].asked[1])));
  at("name").value = "";
  at("name").focus();
}

function showPage() {
  const page = state.page;
  at("heading").textContent = `Page ${state.done + 1} of ${state.total}`;
  at("given").hidden = !page.frame && !page.prompt;
  at("start").hidden = !page.frame;
  if (page.frame) at("frame").src = page.frame;
  at("prompt").textContent = page.prompt;
  at("prompt").parentElement.hidden = !page.prompt;
  at("questions").replaceChildren(...state.questions.map(question));
  at("keys").textContent = KEYS[state.kind];
  showVideos(page.videos);
  prefetch(state.upcoming);
  here = 0;
  shownAt = performance.now();
  at("heading").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function question(name, index) {
  const words = WORDS[name];
  const labels = CHOICES[state.kind].map(([value, text, spoken]) => {
    const input = element("input", { type: "radio", name, value, ariaLabel: spoken });
    input.addEventListener("change", () => { here = index; update(); });
    return element("label", {}, input, element("span", { ariaHidden: "true" }, text));
  });
  const choices = element("div", { className: "choices" }, ...labels);
  const field = element("fieldset", {}, element("legend", {}, words[state.kind], element("small", {}, words.hint)));
  if (state.kind === "single") {
    field.append(element("div", { className: "scale" }, element("span", {}, words.ends[0]), choices, element("span", {}, words.ends[1])));
  } else {
    field.append(choices);
  }
  field.addEventListener("focusin", () => { here = index; update(); });
  return field;
}

function update() {
  [...at("questions").children].forEach((field, index) => field.classList.toggle("here", index === here));
  const complete = state?.page && Object.keys(answers()).length === state.questions.length;
  at("save").disabled = busy || !complete;
  at("undo").disabled = at("reopen").disabled = busy || !state?.last;
}

function answers() {
  const chosen = [...at("questions").querySelectorAll("input:checked")];
  return Object.fromEntries(chosen.map((input) => [input.name, Number(input.value)]));
}

function save() {
  if (busy || at("save").disabled) return;
  const seconds = (performance.now() - shownAt) / 1000;
  send("/api/answer", { trial: state.page.trial, attempt: state.page.attempt, answers: answers(), seconds });
}

function undo() {
  if (state?.last) send("/api/undo", { trial: state.last });
}

// ------------------------------------------------------------------------------------------------------------ videos

const videos = () => [...at("stage").querySelectorAll("video")];

function stopVideos() {
  playing += 1;
  videos().forEach((video) => { video.pause(); video.removeAttribute("src"); video.load(); });
  at("stage").replaceChildren();
}

function showVideos(addresses) {
  stopVideos();
  const names = addresses.length > 1 ? ["A", "B"] : [""];
  at("stage").className = state.kind;
  at("stage").append(...addresses.map((src, index) => {
    const video = element("video", { src, muted: true, playsInline: true, preload: "auto", ariaLabel: `video ${names[index]}`.trim() });
    video.addEventListener("ended", replayWhenAllEnded);
    video.addEventListener("error", () => notify("A video cannot be shown. Please load the page again; if that does not help, contact the person who sent you the link."));
    return element("figure", {}, video, ...(names[index] ? [element("b", { ariaHidden: "true" }, names[index])] : []));
  }));
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const mine = playing;
  const ready = videos().map((video) => new Promise((done) => video.addEventListener("canplaythrough", done, { once: true })));
  Promise.all(ready).then(() => { if (mine === playing && !calm) replay(); });
  showPausing();
}

// Both start together, so that they can be compared.
function replay() {
  playing += 1;
  for (const video of videos()) {
    video.currentTime = 0;
    video.play().catch(showPausing);
  }
  showPausing();
}

function replayWhenAllEnded() {
  const mine = playing;
  if (videos().every((video) => video.ended)) setTimeout(() => { if (mine === playing) replay(); }, PAUSE_BETWEEN_PLAYS_MS);
}

function pause() {
  const moving = videos().some((video) => !video.paused);
  if (!moving && videos().every((video) => video.ended || video.currentTime === 0)) return replay();
  if (moving) playing += 1;
  videos().forEach((video) => { if (moving) video.pause(); else if (!video.ended) video.play().catch(showPausing); });
  return showPausing();
}

function showPausing() {
  at("pausing").textContent = videos().some((video) => !video.paused || video.ended) ? "Pause" : "Play";
}

function prefetch(page) {
  if (page) for (const address of [...page.videos, page.frame]) if (address) fetch(address).catch(() => {});
}

// -------------------------------------------------------------------------------------------------------------- keys

document.addEventListener("keydown", (event) => {
  if (at("rate").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const fields = [...at("questions").children];
  const onButton = event.target instanceof HTMLElement && event.target.closest("button, summary");
  if (onButton && (key === " " || key === "enter")) return; // the button's own
  if (event.target instanceof HTMLInputElement && key === " " && !event.target.checked) return; // ticks it
  const value = BY_KEY[state.kind][key];
  if (value !== undefined) {
    fields[here].querySelector(`input[value="${value}"]`).checked = true;
    here = Math.min(here + 1, fields.length - 1);
  } else if (key === "arrowup" || key === "arrowdown") {
    here = Math.max(0, Math.min(fields.length - 1, here + (key === "arrowdown" ? 1 : -1)));
  } else if (key === "enter") {
    if (!event.repeat) save();
  } else if (key === "r") {
    replay();
  } else if (key === " ") {
    pause();
  } else if (key === "z") {
    if (!event.repeat) undo();
  } else {
    return;
  }
  event.preventDefault();
  update();
});

at("replay").addEventListener("click", replay);
at("pause").addEventListener("click", pause);
at("undo").addEventListener("click", undo);
at("reopen").addEventListener("click", undo);
at("leave").addEventListener("click", () => send("/api/leave", {}));
at("form").addEventListener("submit", (event) => { event.preventDefault(); save(); });
at("enter").addEventListener("submit", (event) => { event.preventDefault(); send("/api/enter", { name: at("name").value }); });

async function begin() {
  const name = new URLSearchParams(location.search).get("rater");
  if (name !== null) {
    history.replaceState(null, "", "/");
    await send("/api/enter", { name });
  }
  if (!state) await send("/api/state");
}

begin();
