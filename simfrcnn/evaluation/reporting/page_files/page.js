"use strict";
// What the page does: light and dark, values under the pointer, the threshold, the exams.
// Words from data are put in as text, never as HTML.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("report-data").textContent);

  const { digits, make, draw, nameOf } = simfrcnnViewer;

  // Light and dark -----------------------------------------------------------------------------
  const THEMES = ["auto", "light", "dark"];
  function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme;
    $("theme").setAttribute("aria-label", "Colours: " + (theme === "auto" ? "as the system" : theme));
    try { localStorage.setItem("simfrcnn-theme", theme); } catch { /* not kept: no storage for files */ }
  }
  let stored = null;
  try { stored = localStorage.getItem("simfrcnn-theme"); } catch { /* as above */ }
  if (THEMES.includes(stored)) setTheme(stored);
  $("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf($("theme").textContent) + 1) % 3]));
  $("print").addEventListener("click", () => window.print());

  // Charts: values under the pointer, lines on and off ------------------------------------------
  function valueAt(line, x, isStepped) {
    let low = 0, high = line.x.length; // the first point beyond x
    while (low < high) {
      const middle = (low + high) >> 1;
      if (line.x[middle] > x) high = middle; else low = middle + 1;
    }
    if (low === 0) return null;
    const before = low - 1;
    if (isStepped || low === line.x.length) return [line.y[before], line.score[before]];
    const share = (x - line.x[before]) / (line.x[low] - line.x[before]);
    return [line.y[before] + share * (line.y[low] - line.y[before]), line.score[before]];
  }
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const chart = data.charts[figure.dataset.chart];
    if (!chart) continue;
    const picture = figure.querySelector("svg"), cursor = figure.querySelector(".cursor"), readout = figure.querySelector(".readout");
    const [left, , width] = chart.plot, [low, high, isLogarithmic, name] = chart.x;
    const off = new Set();
    for (const button of figure.querySelectorAll(".legend")) {
      button.addEventListener("click", () => {
        const key = button.dataset.line;
        if (!off.delete(key)) off.add(key);
        button.setAttribute("aria-pressed", String(!off.has(key)));
        for (const group of figure.querySelectorAll("g.line")) if (group.dataset.line === key) group.classList.toggle("off", off.has(key));
      });
    }
    const lines = chart.lines.filter((line) => line.score.length);
    if (!lines.length) continue;
    readout.hidden = false;
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      const place = (event.clientX - box.left) * (picture.viewBox.baseVal.width / box.width);
      const share = Math.min(Math.max((place - left) / width, 0), 1);
      const x = isLogarithmic ? low * Math.pow(high / low, share) : low + share * (high - low);
      cursor.setAttribute("x1", left + share * width);
      cursor.setAttribute("x2", left + share * width);
      cursor.setAttribute("visibility", "visible");
      const values = lines.filter((line) => !off.has(line.key)).map((line) => {
        const value = valueAt(line, x, chart.steps);
        return value && `${line.label.split(":")[0]}: ${value[0].toFixed(3)}` + (value[1] === null ? "" : `, score >= ${digits(value[1])}`);
      });
      readout.textContent = [`${name} ${x.toFixed(isLogarithmic ? 2 : 3)}`, ...values.filter(Boolean)].join("\n");
    });
    picture.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); readout.textContent = ""; });
  }

  // Scores of all units, sorted upwards ----------------------------------------------------------
  const explorer = $("explorer");
  if (!explorer) return;
  explorer.hidden = false;
  const isOne = explorer.classList.contains("one"); // a page of one exam, without the scores of all
  function numbers(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer), values = new Float64Array(bytes.length / 8);
    for (let i = 0; i < values.length; i++) values[i] = view.getFloat64(8 * i, true);
    return values;
  }
  const levels = {};
  for (const [name, level] of Object.entries(data.levels)) {
    levels[name] = { positive: numbers(level.positive), normal: numbers(level.normal), unknown: level.unknown };
  }
  function countFrom(scores, threshold) { // how many are >= threshold
    let low = 0, high = scores.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (scores[middle] >= threshold) high = middle; else low = middle + 1;
    }
    return scores.length - low;
  }
  const state = { threshold: data.start, level: isOne || "case" in levels ? "case" : Object.keys(levels)[0], exam: null, shown: [] };

  // The threshold --------------------------------------------------------------------------------
  const BINS = 60, WIDTH = 600, MIDDLE = 42, HEIGHT = 70;
  function drawHistogram() {
    if (isOne) return;
    const level = levels[state.level], picture = $("histogram");
    picture.replaceChildren();
    const counts = {};
    for (const kind of ["positive", "normal"]) {
      counts[kind] = new Array(BINS).fill(0);
      for (const score of level[kind]) counts[kind][Math.min(BINS - 1, Math.floor(score * BINS))]++;
    }
    const room = { positive: MIDDLE - 2, normal: HEIGHT - MIDDLE - 2 };
    for (const kind of ["positive", "normal"]) {
      const most = Math.sqrt(Math.max(1, ...counts[kind]));
      counts[kind].forEach((count, i) => {
        if (!count) return;
        const height = Math.max(1.5, room[kind] * Math.sqrt(count) / most);
        picture.append(draw("rect", { class: kind, x: i * WIDTH / BINS + 0.6, width: WIDTH / BINS - 1.2, height, y: kind === "positive" ? MIDDLE - 1 - height : MIDDLE + 1, "data-end": (i + 1) / BINS }));
      });
    }
    for (const point of pointsOfLevel()) picture.append(draw("path", { class: "point", d: `M${point.threshold * WIDTH} 0V${HEIGHT}` }));
    picture.append(draw("path", { class: "now", d: "" }));
    const curve = (data.charts.roc || { lines: [] }).lines.find((line) => line.key === state.level);
    const d = curve && curve.x.length ? "M" + curve.x.map((x, i) => `${(5 + 100 * x).toFixed(1)} ${(105 - 100 * curve.y[i]).toFixed(1)}`).join("L") : "";
    $("small-roc").querySelector(".curve").setAttribute("d", d);
  }
  function pointsOfLevel() {
    const points = data.points.filter((point) => point.level === state.level);
    return points.length ? points : [{ level: state.level, rule: "start", threshold: data.start }];
  }
  function drawPoints() {
    $("points").replaceChildren(...pointsOfLevel().map((point) => {
      const button = make("button", { type: "button" }, `${point.rule} ${digits(point.threshold)}`);
      button.dataset.threshold = point.threshold;
      button.addEventListener("click", () => setThreshold(point.threshold));
      return button;
    }));
  }
  const share = (part, all) => (all ? (part / all).toFixed(3) : "undefined");
  function setThreshold(threshold) {
    state.threshold = Math.min(Math.max(threshold, 0), 1);
    $("threshold").value = state.threshold;
    $("threshold").setAttribute("aria-valuetext", `score ${digits(state.threshold)}`);
    if (document.activeElement !== $("exact")) $("exact").value = Number(state.threshold.toPrecision(6));
    markPoints();
    showCounts();
    showBoxes();
  }
  function markPoints() {
    for (const button of $("points").children) button.setAttribute("aria-pressed", String(Number(button.dataset.threshold) === state.threshold));
  }
  function showCounts() {
    if (isOne) return;
    const { positive, normal, unknown } = levels[state.level], t = state.threshold;
    const tp = countFrom(positive, t), fp = countFrom(normal, t), fn = positive.length - tp, tn = normal.length - fp;
    for (const [id, value] of Object.entries({ tp, fp, fn, tn })) $(id).textContent = String(value);
    $("sensitivity").textContent = share(tp, tp + fn);
    $("specificity").textContent = share(tn, tn + fp);
    $("confusion-caption").textContent = `By ${state.level}, score >= ${digits(t)}`;
    $("confusion-note").textContent = `Right: sensitivity, specificity. Of all called positive, ${share(tp, tp + fp)} are (in this set).` + (unknown ? ` ${unknown} of unknown truth left out.` : "");
    const isDefined = positive.length > 0 && normal.length > 0;
    const x = isDefined ? fp / normal.length : 0, y = isDefined ? tp / positive.length : 0;
    const dot = $("small-roc").querySelector(".moving");
    dot.setAttribute("visibility", isDefined ? "visible" : "hidden");
    dot.setAttribute("cx", 5 + 100 * x);
    dot.setAttribute("cy", 105 - 100 * y);
    const roc = document.querySelector('[data-chart="roc"]');
    if (roc) {
      const [left, top, width, height] = data.charts.roc.plot, moving = roc.querySelector(".moving");
      moving.setAttribute("visibility", isDefined ? "visible" : "hidden");
      moving.setAttribute("cx", left + width * x);
      moving.setAttribute("cy", top + height * (1 - y));
    }
    const picture = $("histogram"), line = picture.querySelector(".now");
    if (line) line.setAttribute("d", `M${t * WIDTH} 0V${HEIGHT}`);
    for (const bar of picture.querySelectorAll("rect")) bar.classList.toggle("below", Number(bar.dataset.end) <= t);
  }

  // Exams ----------------------------------------------------------------------------------------
  let pictures = null;
  function pictureOf(id) {
    if (pictures === null) pictures = JSON.parse($("report-pictures").textContent);
    return pictures[id];
  }
  const REASONS = { false_positive: "worst false positive", missed: "missed lesion", hit: "found" };
  const isCalled = (exam) => exam.score >= state.threshold;
  function facts(view) {
    const more = view.left_out ? `, ${view.left_out} lower detections not drawn` : "";
    return `${nameOf(view)}${view.mirrored ? " · mirrored" : ""}${view.upside_down ? " · turned top to bottom" : ""} · ${view.id} · ${view.truth} · ${digits(view.score)}${more}`;
  }
  const viewer = simfrcnnViewer.create({
    host: $("exam"), facts, small: (view) => pictureOf(view.id),
    // The page holds one small picture of each view, and no other.
    load: (view, isFirst) => (!isFirst ? view.pixels || null : pictureOf(view.id) ? simfrcnnViewer.pixelsOfPicture(pictureOf(view.id)) : null),
    map: (view, name) => simfrcnnViewer.pixelsOfPicture(pictureOf(`${view.id} ${name}`)),
    link: linkOf,
    keys: [...(isOne ? [] : [["← →", "exams"]]), ["t", "truth"], ["d", "detections"], [", .", "threshold"]],
  });
  const { shown, targets, isFound, strip: stripNode } = viewer;
  // The link of an exam to its other page, which opens at the same threshold and view.
  function linkOf(view) {
    const { link, views } = state.exam || {};
    if (!link) return null;
    const place = new URLSearchParams({ exam: link.exam, threshold: state.threshold });
    if (view) place.set("view", views.indexOf(view) + 1);
    return { href: `${link.page}#${place}`, words: link.words };
  }

  function show(exam, doFocus) {
    state.exam = exam;
    for (const item of $("exam-list").querySelectorAll("button")) {
      const isIt = item.exam === exam;
      item.setAttribute("aria-current", String(isIt));
      if (isIt) {
        const list = $("exam-list"), place = item.parentElement;
        list.scrollTop = Math.max(place.offsetTop - list.offsetTop - list.clientHeight / 3, 0);
        list.scrollLeft = Math.max(place.offsetLeft - list.offsetLeft - list.clientWidth / 3, 0);
        if (doFocus) item.focus({ preventScroll: true });
      }
    }
    $("reading").hidden = exam === null;
    if (exam === null) { viewer.show(null); return; }
    $("exam-title").textContent = exam.patient === exam.id ? exam.id : `${exam.id} (patient ${exam.patient})`;
    viewer.show(exam);
    showVerdict();
    simfrcnnViewer.setLink($("exam-link"), linkOf(null));
  }
  function showVerdict() {
    const exam = state.exam;
    if (!exam) return;
    const isRight = exam.truth === "unknown" ? null : (exam.truth === "positive") === isCalled(exam);
    const chip = $("verdict");
    chip.textContent = `${exam.truth}, score ${digits(exam.score)}: called ${isCalled(exam) ? "positive" : "negative"}` + (isRight === null ? "" : isRight ? " ✓" : " ✗");
    chip.className = "chip" + (isRight === null ? "" : isRight ? " good" : " bad");
    const marks = exam.views.flatMap(targets), false_ = exam.views.flatMap(shown).filter((found) => found[5] === "false").length;
    $("found-text").textContent = (marks.length ? `${marks.filter(isFound).length} of ${marks.length} annotated boxes found, ` : "") + `${false_} false positive${false_ === 1 ? "" : "s"}`;
  }
  function showBoxes() {
    viewer.threshold = state.threshold;
    for (const button of $("exam-list").querySelectorAll("button")) markCalled(button);
    showVerdict();
    simfrcnnViewer.setLink($("exam-link"), linkOf(null));
    if ($("side").value) filter(); // what is shown depends on the boxes
  }
  function markCalled(button) {
    button.querySelector(".called").textContent = `${digits(button.exam.score)} ${isCalled(button.exam) ? "+" : "−"}`;
  }

  // Filters --------------------------------------------------------------------------------------
  const items = (isOne ? [] : data.exams).map((exam) => {
    const why = exam.groups.map((group) => REASONS[group]).join(", ");
    const button = make("button", { type: "button" },
      make("span", { class: "name" }, make("span", {}, exam.id), make("span", { class: "called" })), stripNode(exam),
      make("span", { class: "why" }, `${exam.truth}; ${why}`));
    button.exam = exam;
    button.addEventListener("click", () => show(exam));
    markCalled(button);
    return make("li", {}, button);
  });
  function passes(exam) {
    const group = $("group").value, truth = $("truth").value, side = $("side").value, words = $("search").value.trim().toLowerCase();
    if (group && !exam.groups.includes(group)) return false;
    if (truth && exam.truth !== truth) return false;
    if (side && !exam.views.some((view) => view.side === side && (targets(view).length || shown(view).length))) return false;
    return !words || [exam.id, exam.patient, ...exam.views.map((view) => String(view.id))].some((id) => id.toLowerCase().includes(words));
  }
  function filter() {
    state.shown = data.exams.filter(passes);
    const before = [...$("exam-list").children].map((item) => item.firstChild.exam);
    if (before.length !== state.shown.length || before.some((exam, i) => exam !== state.shown[i])) {
      $("exam-list").replaceChildren(...items.filter((item) => state.shown.includes(item.firstChild.exam)));
    }
    $("n-shown").textContent = `${state.shown.length} of ${data.exams.length} exams` + (data.exams.length && !state.shown.length ? ": none passes the filters" : "");
    if (!state.shown.includes(state.exam)) show(state.shown[0] || null);
  }
  function step(by) {
    if (!state.shown.length) return;
    const place = state.shown.indexOf(state.exam) + by;
    show(state.shown[Math.min(Math.max(place, 0), state.shown.length - 1)], $("exam-list").contains(document.activeElement));
  }

  // Controls -------------------------------------------------------------------------------------
  for (const name of Object.keys(levels)) $("level").append(make("option", {}, name));
  $("level").value = state.level;
  $("level").addEventListener("change", () => { state.level = $("level").value; drawPoints(); markPoints(); drawHistogram(); showCounts(); });
  $("threshold").addEventListener("input", () => setThreshold(Number($("threshold").value)));
  $("exact").addEventListener("input", () => {
    const value = $("exact").valueAsNumber;
    if (value >= 0 && value <= 1) setThreshold(value);
  });
  for (const id of ["group", "truth", "side"]) $(id).addEventListener("change", filter);
  $("search").addEventListener("input", filter);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  function toggle(id, name) {
    $(id).addEventListener("change", () => explorer.classList.toggle(name, !$(id).checked));
  }
  toggle("show-truth", "no-truth");
  toggle("show-found", "no-found");
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
    const actions = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), t: () => $("show-truth").click(), d: () => $("show-found").click(),
      ",": () => setThreshold(state.threshold - 0.01), ".": () => setThreshold(state.threshold + 0.01),
    };
    if (event.key.startsWith("Arrow") && (viewer.isEnlarged || event.target.closest(".table"))) return; // scrolls
    if (actions[event.key]) { actions[event.key](); event.preventDefault(); }
  });
  function fillPaper() {
    $("paper").replaceChildren(...state.shown.map((exam) => {
      const words = `${exam.id}: ${exam.truth}, score ${digits(exam.score)} (${exam.groups.map((group) => REASONS[group]).join(", ")})`;
      return make("div", { class: "sheet" }, make("p", {}, words), stripNode(exam));
    }));
  }
  window.addEventListener("beforeprint", fillPaper);
  window.addEventListener("afterprint", () => $("paper").replaceChildren());
  matchMedia("print").addEventListener("change", (event) => { if (event.matches) fillPaper(); });

  // Where a link to this page has come from.
  const place = new URLSearchParams(location.hash.slice(1)), from = Number(place.get("threshold"));
  drawPoints();
  drawHistogram();
  setThreshold(place.has("threshold") && from >= 0 && from <= 1 ? from : state.threshold);
  filter();
  const linked = data.exams.find((exam) => exam.link && String(exam.link.exam) === place.get("exam"));
  if (linked) {
    show(linked);
    if (!isOne) $("reading").scrollIntoView({ behavior: "instant" });
    const view = linked.views[Number(place.get("view")) - 1];
    if (view) viewer.enlarge(view);
  }
  if (!data.exams.length) for (const node of explorer.querySelectorAll(".filters, .viewer")) node.hidden = true;
})();
