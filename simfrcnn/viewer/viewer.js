"use strict";
// One exam as radiologists hang it: pixels under a window, boxes over them, one view enlarged.
// Whoever shows an exam gives the pixels; words from data are put in as text, never as HTML.
//
// An exam is { views: [...] }; a view has id, side, view, width, height, found (x1, y1, x2, y2,
// score, kind, and perhaps { looks: the first and second score, square: what the second look saw,
// outline: rings of x, y, x, y ... }), marked (box, target, hit, perhaps outline), and perhaps heat:
// the classes of which there is a map. What is laid over the pixels is in layers.js.
// Pixels are { width, height, values, white, low, high, curve } and may say mirrored, upside_down:
// then boxes are in stored pixels and turn with them.
const simfrcnnViewer = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const HANGING = [["R", "CC"], ["L", "CC"], ["R", "MLO"], ["L", "MLO"]];
  const MOST_ZOOM = 16, STEP = 1.4;
  const BAND = 256; // rows
  const KEYS = [
    ["+ −", "enlarge, make smaller"], ["1 … 9", "enlarge a view"], ["Esc", "back"], ["arrows", "move an enlarged view"],
    ["[ ]", "level of the window"], ["{ }", "width of the window"], ["r", "window of the file"], ["i", "invert"],
    ["?", "these keys"], ["drag", "window: left and right its width, up and down its level"],
    ["wheel, pinch, double click", "zoom of an enlarged view"], ["Shift and drag", "move an enlarged view"],
  ];

  function make(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  function draw(name, attributes) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }
  function setLink(node, link) { // { href, words }, or null where there is none
    node.hidden = !link;
    if (link) { node.href = link.href; node.textContent = link.words; }
  }
  const between = (low, value, high) => Math.min(Math.max(value, low), high);
  const digits = (value) => (value === null ? "none" : value >= 0.0095 || value === 0 ? value.toFixed(3) : value.toPrecision(2));
  const nameOf = (view) => [view.side, view.view].filter(Boolean).join(" ") || "view";
  const looksOf = ([, , , , , , more]) => (more && more.looks ? ` (detector ${digits(more.looks[0])}, second look ${digits(more.looks[1])})` : "");
  const inSlot = (view, [side, position]) => view.side === side && view.view === position;
  const hung = (exam) => HANGING.map((slot) => exam.views.filter((view) => inSlot(view, slot)));
  const others = (exam) => exam.views.filter((view) => !HANGING.some((slot) => inSlot(view, slot)));

  // Pixels ---------------------------------------------------------------------------------------
  // The pixels of a picture that the browser decodes: 8 bits.
  async function pixelsOfPicture(source) {
    const picture = new Image();
    picture.src = source;
    await picture.decode();
    const width = picture.naturalWidth, height = picture.naturalHeight, values = new Uint8Array(width * height);
    // Band by band: a whole film is larger than the largest canvas of some browsers.
    const canvas = make("canvas", { width, height: Math.min(height, BAND) });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.globalCompositeOperation = "copy";
    for (let y = 0, to = 0; y < height; y += BAND) {
      context.drawImage(picture, 0, -y);
      const colours = context.getImageData(0, 0, width, Math.min(BAND, height - y)).data;
      for (let i = 0; i < colours.length; i += 4) values[to++] = colours[i];
    }
    return { width, height, values, white: 255, low: 0, high: 1, curve: [0, 1] };
  }
  // A block: the length of a JSON header, the header, the samples; all little endian, as every
  // browser's own arrays are today.
  function pixelsOfBlock(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const values = header.bits === 16 ? new Uint16Array(buffer, 4 + length) : new Uint8Array(buffer, 4 + length);
    return { ...header, values, white: header.bits === 16 ? 65535 : 255 };
  }
  function halved(pixels) {
    const width = pixels.width >> 1, height = pixels.height >> 1, from = pixels.values;
    const values = new from.constructor(width * height);
    for (let y = 0, to = 0; y < height; y++) {
      let at = 2 * y * pixels.width;
      for (let x = 0; x < width; x++, at += 2) values[to++] = (from[at] + from[at + 1] + from[at + pixels.width] + from[at + pixels.width + 1] + 2) >> 2;
    }
    return { width, height, values };
  }
  // The smallest copy that still has a pixel for each of the screen; made when first asked for.
  function levelFor(pixels, screenWidth) {
    pixels.levels = pixels.levels || [pixels];
    for (let i = 0; ; i++) {
      const level = pixels.levels[i];
      if (level.width < 2 * screenWidth || level.height < 4 || level.width < 4) return level;
      if (i + 1 === pixels.levels.length) pixels.levels.push(halved(level));
    }
  }
  // What each value is shown as: the file's own curve, moved and stretched by the window.
  function tableOf(pixels, state) {
    const { low, high, curve, white } = pixels, range = high - low;
    const width = range * state.width, begin = low + range * (0.5 + state.level) - width / 2;
    const table = new Uint32Array(white + 1), last = curve.length - 1;
    for (let value = 0; value <= white; value++) {
      const place = between(0, (value / white - begin) / width, 1) * last, before = Math.min(Math.floor(place), last - 1);
      let grey = Math.round(255 * (curve[before] + (curve[before + 1] - curve[before]) * (place - before)));
      if (state.inverted) grey = 255 - grey;
      table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    return table;
  }
  function tableFor(pixels, state) {
    const key = `${state.level} ${state.width} ${state.inverted}`;
    if (pixels.tableKey !== key) { pixels.table = tableOf(pixels, state); pixels.tableKey = key; }
    return pixels.table;
  }
  const scratch = make("canvas");
  // Draw what is in sight of a view that is `width` x `height` on the screen; the part in CSS pixels.
  function paint(canvas, pixels, state, width, height, part) {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(part.width * scale));
    canvas.height = Math.max(1, Math.round(part.height * scale));
    Object.assign(canvas.style, { left: `${part.left}px`, top: `${part.top}px`, width: `${part.width}px`, height: `${part.height}px` });
    const level = levelFor(pixels, width * scale), table = tableFor(pixels, state);
    const toX = level.width / width, toY = level.height / height;
    const x = between(0, Math.floor(part.left * toX) - 1, level.width - 1), y = between(0, Math.floor(part.top * toY) - 1, level.height - 1);
    const right = Math.min(level.width, Math.ceil((part.left + part.width) * toX) + 1), bottom = Math.min(level.height, Math.ceil((part.top + part.height) * toY) + 1);
    const image = new ImageData(right - x, bottom - y), words = new Uint32Array(image.data.buffer);
    for (let row = y, to = 0; row < bottom; row++) {
      for (let at = row * level.width + x, end = row * level.width + right; at < end; at++) words[to++] = table[level.values[at]];
    }
    scratch.width = image.width;
    scratch.height = image.height;
    scratch.getContext("2d").putImageData(image, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(scratch, (x / toX - part.left) * scale, (y / toY - part.top) * scale, (image.width / toX) * scale, (image.height / toY) * scale);
  }

  // host: where the viewer goes. load(view, isFirst): pixels, or null where there are none; asked
  // twice, for small ones first. map(view, name): those of a class map, or null. small(view): a
  // picture's address for the strip. facts(view): words. link(view): { href, words } beside it where
  // it is enlarged, or null. keys: further keys for the help.
  function create({ host, load, map, small, facts, link = () => null, keys = [] }) {
    const state = { exam: null, threshold: 0.5, level: 0, width: 1, inverted: false, turn: 0 };
    const shown = (view) => view.found.filter((found) => found[4] >= state.threshold);
    const targets = (view) => view.marked.filter((mark) => mark.target);
    const isFound = (mark) => mark.hit !== null && mark.hit >= state.threshold;

    const stage = make("div", { id: "stage", class: "stage" });
    const tool = (id, label, words, action) => {
      const node = make("button", { type: "button", id, "aria-label": label, title: label }, words);
      node.addEventListener("click", action);
      return node;
    };
    const range = (id, label, low, high, step) => {
      const input = make("input", { type: "range", id, min: low, max: high, step });
      return [input, make("label", { class: "inline", for: id }, label, " ", input)];
    };
    const [levelSlider, levelLabel] = range("window-level", "level", -1, 1, 0.01);
    const [widthSlider, widthLabel] = range("window-width", "width", -2, 2, 0.05); // powers of two
    const windowText = make("output", { class: "quiet", id: "window-text" });
    const layers = simfrcnnLayers.create({ host, tool, range, map, nodes: () => drawn() });
    const tools = make("div", { class: "view-tools row" }, make("span", { class: "row", role: "group", "aria-label": "Window" },
      levelLabel, widthLabel, windowText,
      tool("window-reset", "Window of the file (r)", "reset", () => setWindow(0, 1)),
      tool("window-invert", "Invert (i)", "invert", () => { state.inverted = !state.inverted; setWindow(state.level, state.width); }),
      tool("help", "Keys (?)", "?", () => help.showModal())), layers.group);
    const help = make("dialog", { id: "keys", "aria-label": "Keys" }, make("h3", {}, "Keys"),
      make("dl", {}, ...[...keys, ...simfrcnnLayers.KEYS, ...KEYS].flatMap(([key, words]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, words)])),
      make("form", { method: "dialog" }, make("button", { autofocus: "" }, "Close")));
    // A policy without form-action lets no form be sent, dialogs' own ones neither.
    help.querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); help.close(); });
    const room = make("div", { id: "large-stage", tabindex: "0", role: "region", "aria-label": "Picture", autofocus: "" });
    const largeTitle = make("strong", { id: "large-title" }), largeLink = make("a", { id: "large-link" });
    const dialog = make("dialog", { id: "large", "aria-label": "Enlarged view" },
      make("div", { class: "row" }, largeTitle, largeLink, make("span", { class: "steps" },
        tool("smaller", "Smaller", "−", () => zoom(1 / STEP)), tool("larger", "Larger", "+", () => zoom(STEP)), tool("close", "Close", "Close", () => dialog.close()))), room);
    host.append(tools, stage, dialog, help);

    // A view: pixels, and boxes in its own pixels over them.
    function turned(box, view) {
      let [x1, y1, x2, y2] = box;
      const pixels = view.pixels || {};
      if (pixels.mirrored) [x1, x2] = [view.width - x2, view.width - x1];
      if (pixels.upside_down) [y1, y2] = [view.height - y2, view.height - y1];
      return [x1, y1, x2, y2];
    }
    function boxes(node, layer, view, isLabelled) {
      layer.replaceChildren();
      for (const label of node.querySelectorAll(".score")) label.remove();
      const add = (box, kind) => layer.append(draw("rect", { class: kind, x: box[0], y: box[1], width: Math.max(box[2] - box[0], 0.5), height: Math.max(box[3] - box[1], 0.5) }));
      if (isLabelled) simfrcnnLayers.marks(node, layer, view, state.threshold, turned);
      for (const mark of view.marked) if (!mark.target) add(turned(mark.box, view), "other marked");
      for (const found of shown(view).reverse()) { // the highest on top
        const box = turned(found, view);
        add(box, `${found[5]} found`);
        if (!isLabelled) continue;
        const atRight = box[0] > 0.7 * view.width;
        const label = make("span", { class: `score found ${found[5]}${box[1] < 0.05 * view.height ? " inside" : ""}${atRight ? " at-right" : ""}` },
          digits(found[4]), make("span", { class: "looks" }, looksOf(found)));
        label.style.left = `${100 * (atRight ? box[2] : box[0]) / view.width}%`;
        label.style.top = `${100 * box[1] / view.height}%`;
        node.append(label);
      }
      for (const mark of targets(view)) add(turned(mark.box, view), isFound(mark) ? "truth" : "truth open");
    }
    function frame(view, tag, isLabelled, picture) {
      const node = make(tag, { class: "view" });
      node.style.setProperty("--ratio", view.width / view.height);
      const layer = draw("svg", { viewBox: `0 0 ${view.width} ${view.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
      node.append(picture, layer);
      node.redraw = () => boxes(node, layer, view, isLabelled);
      node.redraw();
      return node;
    }
    function drawnView(view, tag) {
      const canvas = make("canvas", { role: "img", "aria-label": `${nameOf(view)}, image ${view.id}` });
      const node = frame(view, tag, true, canvas);
      node.of = view;
      layers.dress(node, canvas);
      node.inSight = () => ({ left: 0, top: 0, width: node.clientWidth, height: node.clientHeight });
      node.repaint = () => {
        if (view.pixels && node.clientWidth) paint(canvas, view.pixels, state, node.clientWidth, node.clientHeight, node.inSight());
      };
      windowByDrag(node);
      return node;
    }
    function strip(exam) {
      const row = make("div", { class: "strip", "aria-hidden": "true" });
      [...hung(exam), others(exam)].forEach((views, i) => {
        for (const view of views) {
          const source = small && small(view);
          const node = frame(view, "span", false, source ? make("img", { src: source, alt: "", decoding: "async" }) : make("span"));
          if (i === 2 || i === 4) node.classList.add("pair");
          row.append(node);
        }
      });
      return row;
    }

    // The exam -----------------------------------------------------------------------------------
    const tiles = () => [...stage.querySelectorAll(".view")];
    const drawn = () => [...tiles(), room.firstChild].filter(Boolean);
    function describe() {
      for (const tile of tiles()) {
        const found = shown(tile.of), words = found.length ? `${found.length} marked, the highest ${digits(found[0][4])}` : "nothing marked";
        tile.setAttribute("aria-label", `Enlarge ${nameOf(tile.of)}: ${words}`);
      }
    }
    function slot(views, label, name) {
      const images = make("div", { class: "images" });
      for (const view of views) {
        const button = drawnView(view, "button");
        button.type = "button";
        button.addEventListener("click", () => { if (!button.wasDragged) enlarge(view); });
        const words = facts(view), caption = make("figcaption", { class: "label", title: words }, make("b", {}, nameOf(view)), words.slice(nameOf(view).length));
        const figure = make("figure", {}, caption, button);
        figure.style.setProperty("--ratio", view.width / view.height);
        images.append(figure);
      }
      if (!views.length) images.append(make("div", { class: "empty" }, `no ${label}`));
      return make("div", { class: `slot ${name}` }, images);
    }
    function show(exam) {
      if (dialog.open) dialog.close();
      for (const view of state.exam ? state.exam.views : []) delete view.pixels; // some 10 MB each
      state.exam = exam;
      state.turn += 1;
      layers.take(exam);
      delete stage.dataset.painted;
      if (exam === null) { stage.replaceChildren(); layers.update(); return; }
      const rest = others(exam), isAnyHung = rest.length < exam.views.length;
      const slots = isAnyHung ? hung(exam).map((views, i) => slot(views, HANGING[i].join(" "), HANGING[i][0] === "R" ? "right" : "left")) : [];
      if (rest.length) slots.push(slot(rest, "", "others"));
      // A pair of views of which there is none (film sets often hold MLO alone) takes less room.
      const columns = [0, 1, 2, 3].map((i) => (hung(exam)[i].length || hung(exam)[i ^ 1].length ? "minmax(0, 1fr)" : "minmax(0, .3fr)"));
      stage.style.setProperty("--columns", columns.join(" "));
      stage.replaceChildren(...slots);
      layers.update();
      setWindow(0, 1);
      describe();
      fill(exam, state.turn);
    }
    async function fill(exam, turn) {
      for (const isFirst of [true, false]) {
        await Promise.all(exam.views.map(async (view) => {
          const pixels = await load(view, isFirst);
          if (!pixels || turn !== state.turn) return;
          view.pixels = pixels;
          for (const node of drawn()) if (node.of === view) { node.redraw(); node.repaint(); layers.heat(node); }
        }));
        if (turn !== state.turn) return;
        stage.dataset.painted = isFirst ? "first" : "all";
        performance.mark(`simfrcnn-painted-${stage.dataset.painted}`);
      }
    }
    function repaint() {
      if (repaint.isDue) return;
      repaint.isDue = true;
      requestAnimationFrame(() => {
        repaint.isDue = false;
        if (dialog.open) room.firstChild.repaint(); else for (const tile of tiles()) tile.repaint();
      });
    }
    function redraw() {
      for (const node of [...document.querySelectorAll(".strip .view"), ...drawn()]) node.redraw();
      if (dialog.open) setLink(largeLink, link(large.view));
      describe();
    }

    // The window: level as a part of the file's own width, width as a multiple of it.
    function setWindow(level, width) {
      state.level = between(-1, level, 1);
      state.width = between(0.05, width, 4);
      levelSlider.value = state.level;
      widthSlider.value = Math.log2(state.width);
      windowText.textContent = `${state.level >= 0 ? "+" : "−"}${Math.abs(state.level).toFixed(2)}, × ${state.width.toFixed(2)}`;
      const button = tools.querySelector("#window-invert");
      button.setAttribute("aria-pressed", String(state.inverted));
      repaint();
    }
    levelSlider.addEventListener("input", () => setWindow(levelSlider.valueAsNumber, state.width));
    widthSlider.addEventListener("input", () => setWindow(state.level, 2 ** widthSlider.valueAsNumber));
    function windowByDrag(node) {
      node.addEventListener("pointerdown", (event) => {
        node.wasDragged = false;
        if (event.pointerType === "touch" || event.button > 1) return; // a finger scrolls; sliders are for it
        const start = { x: event.clientX, y: event.clientY, level: state.level, width: state.width, left: room.scrollLeft, top: room.scrollTop };
        const isMove = dialog.open && (event.shiftKey || event.button === 1);
        if (dialog.open) event.preventDefault();
        node.setPointerCapture(event.pointerId);
        const move = (now) => {
          const x = now.clientX - start.x, y = now.clientY - start.y;
          if (Math.hypot(x, y) > 3) node.wasDragged = true;
          if (!node.wasDragged) return;
          if (isMove) room.scrollTo(start.left - x, start.top - y);
          else setWindow(start.level + y / 400, start.width * 2 ** (x / 150)); // down is darker, right is softer
        };
        node.addEventListener("pointermove", move);
        for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => node.removeEventListener("pointermove", move), { once: true });
      });
    }

    // A view enlarged ----------------------------------------------------------------------------
    const large = { view: null, zoom: 1, centre: [0.5, 0.5] };
    function enlarge(view) {
      const first = shown(view)[0] || (targets(view)[0] || {}).box, box = first && turned(first, view);
      Object.assign(large, { view, zoom: 1, centre: box ? [(box[0] + box[2]) / 2 / view.width, (box[1] + box[3]) / 2 / view.height] : [0.5, 0.5] });
      largeTitle.textContent = facts(view);
      setLink(largeLink, link(view));
      const node = drawnView(view, "div");
      node.inSight = () => { // only what is in sight: a whole film at 8 times its size is no canvas
        const outer = room.getBoundingClientRect(), inner = node.getBoundingClientRect();
        const left = Math.max(0, outer.left - inner.left), top = Math.max(0, outer.top - inner.top);
        return { left, top, width: Math.max(1, Math.min(inner.width, outer.right - inner.left) - left), height: Math.max(1, Math.min(inner.height, outer.bottom - inner.top) - top) };
      };
      room.replaceChildren(node);
      layers.heat(node);
      if (!dialog.open) dialog.showModal();
      dialog.querySelector(".row").append(tools); // the same controls, where they can be reached
      size();
    }
    function size() {
      const node = room.firstChild, ratio = large.view.width / large.view.height;
      const width = Math.min(room.clientWidth - 8, (room.clientHeight - 8) * ratio) * large.zoom;
      node.style.width = `${Math.max(width, 80)}px`;
      room.scrollLeft = large.centre[0] * node.offsetWidth - room.clientWidth / 2;
      room.scrollTop = large.centre[1] * node.offsetHeight - room.clientHeight / 2;
      node.repaint();
    }
    function look() { // where the reader has moved to, as parts of the picture
      const node = room.firstChild;
      if (node.offsetWidth > room.clientWidth) large.centre[0] = (room.scrollLeft + room.clientWidth / 2) / node.offsetWidth;
      if (node.offsetHeight > room.clientHeight) large.centre[1] = (room.scrollTop + room.clientHeight / 2) / node.offsetHeight;
    }
    function zoom(factor) {
      if (dialog.open) { look(); large.zoom = between(1, large.zoom * factor, MOST_ZOOM); size(); return; }
      if (factor < 1 || !state.exam || !state.exam.views.length) return;
      enlarge(state.exam.views.reduce((best, view) => (view.score > best.score ? view : best)));
    }
    function zoomAt(factor, x, y) { // the point under the pointer stays where it is
      const node = room.firstChild, before = node.getBoundingClientRect();
      const place = [(x - before.left) / before.width, (y - before.top) / before.height];
      large.zoom = between(1, large.zoom * factor, MOST_ZOOM);
      size();
      const after = node.getBoundingClientRect();
      room.scrollBy(after.left + place[0] * after.width - x, after.top + place[1] * after.height - y);
    }
    room.addEventListener("scroll", repaint);
    room.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(2 ** (-event.deltaY / 400), event.clientX, event.clientY); }, { passive: false });
    room.addEventListener("dblclick", (event) => zoomAt(large.zoom > 1.01 ? 1 / large.zoom : 4, event.clientX, event.clientY));
    let pinch = 0;
    room.addEventListener("touchmove", (event) => {
      if (event.touches.length !== 2) return;
      event.preventDefault();
      const [a, b] = event.touches, now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      if (pinch) zoomAt(now / pinch, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
      pinch = now;
    }, { passive: false });
    room.addEventListener("touchend", () => { pinch = 0; });
    dialog.addEventListener("close", () => { room.replaceChildren(); host.prepend(tools); repaint(); });
    new ResizeObserver(() => { if (dialog.open) size(); else repaint(); }).observe(stage);
    window.addEventListener("resize", () => { if (dialog.open) size(); });

    const actions = {
      ...layers.actions,
      "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP),
      "[": () => setWindow(state.level - 0.05, state.width), "]": () => setWindow(state.level + 0.05, state.width),
      "{": () => setWindow(state.level, state.width / 1.2), "}": () => setWindow(state.level, state.width * 1.2),
      r: () => setWindow(0, 1), i: () => tools.querySelector("#window-invert").click(), "?": () => { if (!help.open) help.showModal(); },
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
      if (event.target.closest("input:not([type=checkbox], [type=range]), select, textarea")) return;
      const number = /^[1-9]$/.test(event.key) && tiles()[Number(event.key) - 1];
      if (number) enlarge(number.of); else if (actions[event.key]) actions[event.key](); else return;
      event.preventDefault();
    });

    return {
      show, strip, redraw, enlarge, shown, targets, isFound,
      get isEnlarged() { return dialog.open; },
      set threshold(value) { state.threshold = value; redraw(); },
      get threshold() { return state.threshold; },
    };
  }
  return { create, pixelsOfPicture, pixelsOfBlock, digits, nameOf, setLink, make, draw };
})();
