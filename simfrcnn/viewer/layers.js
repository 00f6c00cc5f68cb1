"use strict";
// What can be laid over the pixels of a view, and switched: the class maps of a classifier as
// colours, the squares that a second look saw, outlines.
const simfrcnnLayers = (() => {
  const OPACITY = 0.6; // what a map of 1 hides of the picture to begin with, as in predict's pictures
  const KEYS = [["h", "heat map"], ["s", "what the second look saw"], ["o", "outlines"]];
  const { make, draw, digits } = simfrcnnViewer;

  // From clear, where a map is 0, over blue, green and yellow to red, where it is 1.
  function colourOf(value) {
    const channel = (middle) => Math.round(255 * Math.min(Math.max(1.5 - Math.abs(4 * value - middle), 0), 1));
    return [channel(3), channel(2), channel(1), Math.round(255 * value)];
  }
  const COLOURS = Uint8ClampedArray.from(Array.from({ length: 256 }, (_, value) => colourOf(value / 255)).flat());
  function colour(canvas, { width, height, values }) {
    Object.assign(canvas, { width, height });
    const image = new ImageData(width, height);
    for (let i = 0; i < values.length; i++) image.data.set(COLOURS.subarray(4 * values[i], 4 * values[i] + 4), 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
  const turnOf = (view) => {
    const { mirrored, upside_down: upsideDown } = { ...view, ...view.pixels };
    return `scale(${mirrored ? -1 : 1}, ${upsideDown ? -1 : 1})`;
  };

  // Outlines and squares of a view, in its own pixels; `turned` turns boxes as the pixels are.
  function pathOf(rings, view, turned) {
    const points = (ring) => {
      const words = [];
      for (let i = 0; i < ring.length; i += 2) words.push(turned([ring[i], ring[i + 1], ring[i], ring[i + 1]], view).slice(0, 2).join(" "));
      return `M${words.join("L")}Z`;
    };
    return rings.map(points).join("");
  }
  function marks(node, layer, view, threshold, turned) {
    const outline = (rings, kind) => { if (rings) layer.append(draw("path", { class: `outline ${kind}`, d: pathOf(rings, view, turned) })); };
    for (const found of view.found) {
      const { square, looks, outline: rings } = found[6] || {}, isBelow = found[4] < threshold;
      if (!isBelow) outline(rings, `${found[5]} found`);
      if (!square) continue;
      const [x1, y1, x2, y2] = turned(square, view), kind = `square${isBelow ? " below" : ""}`;
      layer.append(draw("rect", { class: kind, x: x1, y: y1, width: x2 - x1, height: y2 - y1 }));
      const isLow = y2 > 0.95 * view.height, isAtRight = x1 > 0.7 * view.width;
      const words = `detector ${digits(looks[0])}, second look ${digits(looks[1])}`;
      const label = make("span", { class: `score ${kind}${isLow ? " inside" : ""}${isAtRight ? " at-right" : ""}` }, words);
      label.style.left = `${100 * Math.min(Math.max(isAtRight ? x2 : x1, 0), view.width) / view.width}%`;
      label.style.top = `${100 * Math.min(y2, view.height) / view.height}%`;
      node.append(label);
    }
    for (const mark of view.marked) outline(mark.outline, mark.target ? "truth" : "other marked");
  }

  // host: gets the classes by which the style shows and hides. nodes(): the views that are drawn.
  // map(view, name): the pixels of a class map, or null where there is none any more.
  function create({ host, tool, range, nodes, map }) {
    // wanted: the class that was chosen, also while an exam without it is shown, or none.
    const state = { exam: null, name: null, wanted: null, opacity: OPACITY };
    const isOn = { heat: false, squares: false, outlines: true };
    const button = (kind, id, label, words) => tool(id, label, words, () => switched(kind, !isOn[kind]));
    const buttons = {
      heat: button("heat", "layer-heat", "Heat map: where the classifier sees a class (h)", "heat map"),
      squares: button("squares", "layer-squares", "What the second look saw (s)", "second look"),
      outlines: button("outlines", "layer-outlines", "Outlines (o)", "outlines"),
    };
    const [slider, sliderLabel] = range("heat-opacity", "opacity", 0, 1, 0.05);
    const choice = make("select", { id: "heat-class", "aria-label": "Class of the heat map" });
    const scale = make("canvas", { width: 256, height: 1 });
    const legend = make("span", { class: "quiet legend", id: "heat-legend", role: "img", "aria-label": "Colours of the heat map: clear at 0, blue, green, yellow, red at 1" }, "0 ", make("span", { class: "scale" }, scale), " 1");
    const heatTools = make("span", { class: "row", id: "heat-tools" }, choice, sliderLabel, legend);
    const group = make("span", { class: "row", id: "layers", role: "group", "aria-label": "Layers" }, ...Object.values(buttons), heatTools);
    colour(scale, { width: 256, height: 1, values: Uint8Array.from({ length: 256 }, (_, i) => i) });

    const views = () => (state.exam ? state.exam.views : []);
    const has = {
      heat: () => views().some((view) => (view.heat || []).length),
      squares: () => views().some((view) => view.found.some((found) => found[6] && found[6].square)),
      outlines: () => views().some((view) => [...view.found.map((found) => found[6] || {}), ...view.marked].some((one) => one.outline)),
    };
    const names = () => [...new Set(views().flatMap((view) => view.heat || []))];

    function switched(kind, on) {
      if (!has[kind]()) return;
      isOn[kind] = on;
      for (const node of nodes()) if (node.classList.contains("no-map")) delete node.heatName; // asked for again
      update();
    }
    function update() {
      for (const [kind, node] of Object.entries(buttons)) {
        node.hidden = !has[kind]();
        node.setAttribute("aria-pressed", String(isOn[kind]));
        host.classList.toggle(`with-${kind}`, isOn[kind]);
      }
      group.hidden = Object.values(buttons).every((node) => node.hidden);
      heatTools.hidden = buttons.heat.hidden || !isOn.heat;
      choice.hidden = names().length < 2;
      slider.value = state.opacity;
      slider.setAttribute("aria-valuetext", `${Math.round(100 * state.opacity)}%`);
      host.style.setProperty("--heat", state.opacity);
      for (const node of nodes()) heat(node);
    }
    // The colours of a view; the map is asked for when it is first shown.
    async function heat(node) {
      const view = node.of, canvas = node.heat, name = state.name;
      if (!canvas || !isOn.heat) return;
      canvas.style.transform = turnOf(view);
      if (node.heatName === name) return;
      node.heatName = name;
      canvas.width = 0; // while this map is on its way, that of another class is not in its place
      node.classList.remove("no-map");
      const maps = view.maps = view.maps || new Map(), isThere = (view.heat || []).includes(name);
      if (isThere && !maps.has(name)) maps.set(name, map(view, name));
      const pixels = await (maps.get(name) || null);
      if (!pixels) maps.delete(name);
      if (node.heatName !== name) return; // another class was chosen meanwhile
      node.classList.toggle("no-map", !pixels);
      node.note.textContent = isThere ? "heat map not loaded" : "no heat map";
      if (pixels) colour(canvas, pixels);
    }
    function dress(node, picture) { // a view that is new: its canvas over the picture
      if (!names().length) return;
      node.heat = make("canvas", { class: "heat", "aria-hidden": "true" });
      node.note = make("span", { class: "note" });
      picture.after(node.heat, node.note);
    }
    function take(exam) {
      for (const view of views()) delete view.maps;
      state.exam = exam;
      const known = names();
      state.name = known.includes(state.wanted) ? state.wanted : known[0] || null;
      choice.replaceChildren(...known.map((name) => make("option", { value: name }, name)));
      if (known.length) choice.value = state.name;
    }
    slider.addEventListener("input", () => { state.opacity = slider.valueAsNumber; update(); });
    choice.addEventListener("change", () => { state.name = state.wanted = choice.value; update(); });

    return {
      group, take, dress, update, heat,
      actions: { h: () => switched("heat", !isOn.heat), s: () => switched("squares", !isOn.squares), o: () => switched("outlines", !isOn.outlines) },
    };
  }
  return { create, marks, KEYS };
})();
