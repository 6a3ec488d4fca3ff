// The two moving figures of the article: a sheet with all frames is shifted behind a window of one frame.
"use strict";

const REST_MS = 800; // on the last frame, before a video begins again
const SVG = "http://www.w3.org/2000/svg";
const percent = (place, count) => (count > 1 ? (100 * place) / (count - 1) : 0) + "%";

// A slider with a button that plays; `update` is called with the number of a frame.
function player(figure, data, update) {
  const slider = figure.querySelector("input[type=range]");
  const button = figure.querySelector("button");
  let timer = 0;
  const show = (frame) => {
    slider.value = frame;
    update(Number(slider.value));
  };
  const stop = () => {
    clearTimeout(timer);
    timer = 0;
    button.textContent = "Play";
  };
  const step = () => {
    const next = (Number(slider.value) + 1) % data.frames;
    show(next);
    timer = setTimeout(step, 1000 / data.fps + (next === data.frames - 1 ? REST_MS : 0));
  };
  const play = () => {
    button.textContent = "Pause";
    timer = setTimeout(step, 1000 / data.fps);
  };
  button.addEventListener("click", () => (timer ? stop() : play()));
  slider.addEventListener("input", () => {
    stop();
    show(slider.value);
  });
  return { show, stop, play, frame: () => Number(slider.value) };
}

function sideBySide(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const windows = [...figure.querySelectorAll(".sheet")];
  const place = (frame) =>
    windows.forEach((one) => {
      one.style.backgroundPosition = percent(frame, data.frames) + " " + percent(Number(one.dataset.row), data.rows);
    });
  const shown = player(figure, data, place);
  shown.show(0);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect(); // it begins once, when it is first seen; from then on the button decides
    shown.play();
  });
  watcher.observe(figure.querySelector(".controls"));
}

// A cell for each group of each patch; the table says which bit of a patch lights it.
function codeCells(picture, numPatches, groups) {
  const side = Math.round(Math.sqrt(numPatches)), columns = Math.ceil(Math.sqrt(groups)), rows = Math.ceil(groups / columns);
  picture.setAttribute("viewBox", `0 0 ${side * 12} ${side * 12}`);
  const cells = [];
  for (let patch = 0; patch < numPatches; patch++) {
    for (let group = 0; group < groups; group++) {
      const cell = document.createElementNS(SVG, "rect"), wide = 11 / columns, tall = 11 / rows;
      cell.setAttribute("x", (patch % side) * 12 + 0.5 + (group % columns) * wide);
      cell.setAttribute("y", Math.floor(patch / side) * 12 + 0.5 + Math.floor(group / columns) * tall);
      cell.setAttribute("width", wide);
      cell.setAttribute("height", tall);
      picture.append(cell);
      cells.push(cell);
    }
  }
  return cells;
}

function latentPath(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const sheet = figure.querySelector(".sheet");
  const output = figure.querySelector("output");
  const radios = [...figure.querySelectorAll("input[type=radio]")];
  const colours = [...figure.querySelectorAll(".of-group")].map((one) => one.style.background);
  const digits = 2 * Math.ceil(data.groups / 8);
  const numPatches = data.changed[0][0].length / digits;
  const cells = codeCells(figure.querySelector(".codes"), numPatches, data.groups);
  const planes = [...figure.querySelectorAll(".plane")].map((picture) => ({
    picture,
    mark: picture.querySelector(".mark"),
    lines: [...picture.querySelectorAll(".sampled")],
    true: [...picture.querySelectorAll(".true")],
    paths: [...picture.querySelectorAll(".sampled")].map((line) =>
      line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number))),
  }));
  let sentence = 0;

  const update = (frame) => {
    const bits = data.changed[sentence][frame];
    let numCodes = 0, patches = 0;
    for (let patch = 0; patch < numPatches; patch++) {
      const own = parseInt(bits.slice(patch * digits, (patch + 1) * digits), 16);
      patches += own > 0;
      for (let group = 0; group < data.groups; group++) {
        const isChanged = (own >> group) & 1;
        numCodes += isChanged;
        cells[patch * data.groups + group].style.fill = isChanged ? colours[group] : "";
      }
    }
    sheet.style.backgroundPosition = percent(frame, data.frames) + " " + percent(sentence, data.changed.length);
    for (const plane of planes) {
      const [x, y] = plane.paths[sentence][frame];
      plane.mark.setAttribute("cx", x);
      plane.mark.setAttribute("cy", y);
      plane.lines.forEach((line, place) => line.classList.toggle("chosen", place === sentence));
      plane.true.forEach((line, place) => line.classList.toggle("chosen", place === sentence));
    }
    const seconds = (frame / data.fps).toFixed(2);
    output.textContent = `Frame ${frame}, at ${seconds} s: ${numCodes} of ${cells.length} codes differ from the first frame, ` +
      `in ${patches} of ${numPatches} patches.`;
  };
  const shown = player(figure, data, update);
  radios.forEach((radio, place) =>
    radio.addEventListener("change", () => {
      sentence = place;
      update(shown.frame());
    }));

  // The nearest frame to a pointer, among some sentences.
  const nearest = (plane, event, sentences) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(plane.picture.getScreenCTM().inverse());
    const found = { distance: Infinity };
    for (const one of sentences) {
      plane.paths[one].forEach(([x, y], frame) => {
        const distance = Math.hypot(x - at.x, y - at.y);
        if (distance < found.distance) Object.assign(found, { distance, frame, sentence: one });
      });
    }
    return found;
  };
  for (const plane of planes) {
    plane.picture.addEventListener("pointerdown", (event) => {
      plane.picture.setPointerCapture(event.pointerId);
      shown.stop();
      const found = nearest(plane, event, radios.keys());
      sentence = found.sentence;
      radios[sentence].checked = true;
      shown.show(found.frame);
    });
    plane.picture.addEventListener("pointermove", (event) => {
      if (plane.picture.hasPointerCapture(event.pointerId)) shown.show(nearest(plane, event, [sentence]).frame);
    });
  }
  // A browser that comes back to the page may have kept another sentence and frame.
  sentence = Math.max(0, radios.findIndex((radio) => radio.checked));
  update(shown.frame());
}

document.querySelectorAll(".latent-path").forEach(latentPath);
document.querySelectorAll(".side-by-side").forEach(sideBySide);
