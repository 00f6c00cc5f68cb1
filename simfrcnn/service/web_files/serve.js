"use strict";
// Studies of the folder, uploads, and the exam that is read. Words from data are put in as text.
(() => {
  const { make, digits, nameOf, pixelsOfBlock, pixelsOfPicture } = simfrcnnViewer;
  const $ = (id) => document.getElementById(id);
  const PREVIEW = 4; // times smaller: what is painted first
  const WAIT_MS = 1000, IDLE_MS = 15000;
  const state = { studies: [], current: null, exam: null, point: 0.5, threshold: 0.5 };

  // Light and dark -------------------------------------------------------------------------------
  const THEMES = ["auto", "light", "dark"];
  function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme;
    $("theme").setAttribute("aria-label", "Colours: " + (theme === "auto" ? "as the system" : theme));
    localStorage.setItem("simfrcnn-theme", theme);
  }
  if (THEMES.includes(localStorage.getItem("simfrcnn-theme"))) setTheme(localStorage.getItem("simfrcnn-theme"));
  $("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf($("theme").textContent) + 1) % 3]));

  // Requests -------------------------------------------------------------------------------------
  async function ask(path, options = {}) {
    const token = sessionStorage.getItem("simfrcnn-token");
    const headers = { Accept: "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const response = await fetch(path, { ...options, headers });
    if (response.status === 401) {
      await askForToken();
      return ask(path, options);
    }
    if (response.ok) return response;
    const { error, legal, remedy } = await response.json().catch(() => ({ error: `the server answers ${response.status}`, legal: "", remedy: "" }));
    throw new Error([error, legal && `legal: ${legal}`, remedy].filter(Boolean).join("; "));
  }
  const json = async (path, options) => (await ask(path, options)).json();
  let asking = null;
  function askForToken() {
    asking = asking || new Promise((resolve) => {
      $("ask").showModal();
      $("give").onsubmit = (event) => {
        event.preventDefault();
        if (!$("token").value) return;
        sessionStorage.setItem("simfrcnn-token", $("token").value.trim());
        $("token").value = "";
        $("ask").close();
        asking = null;
        resolve();
      };
    });
    return asking;
  }
  $("ask").addEventListener("cancel", (event) => event.preventDefault());
  function say(words, isBad = false) {
    $("message").textContent = words;
    $("message").classList.toggle("bad", isBad);
    $("message").hidden = !words;
  }
  const saying = (action) => async (...given) => {
    try { return await action(...given); } catch (error) { say(error.message, true); return undefined; }
  };

  // The exam -------------------------------------------------------------------------------------
  const viewer = simfrcnnViewer.create({
    host: $("exam"),
    small: null,
    load: async (view, isFirst) => {
      const reduce = isFirst ? PREVIEW : 1;
      try {
        return pixelsOfBlock(await (await ask(`/results/${view.exam}/films/${view.number}?reduce=${reduce}`)).arrayBuffer());
      } catch (error) {
        say(error.message, true);
        return null;
      }
    },
    map: async (view, name) => {
      try {
        const place = view.targets.indexOf(name);
        const address = URL.createObjectURL(await (await ask(`/results/${view.exam}/films/${view.number}/maps/${place}`)).blob());
        try { return await pixelsOfPicture(address); } finally { URL.revokeObjectURL(address); }
      } catch (error) {
        say(error.message, true);
        return null;
      }
    },
    facts: (view) => `${nameOf(view)} · ${digits(view.score)}${view.notes ? ` · ${view.notes}` : ""}`,
    keys: [["← →", "studies"], ["d", "marks"], [", .", "score to mark from"]],
  });
  // What a detection has of a second look and of a mask head.
  const moreOf = (one, outline) => ({
    ...("second_score" in one ? { looks: [one.first_score, one.second_score] } : {}),
    ...("second_look_xyxy_px" in one ? { square: one.second_look_xyxy_px } : {}),
    ...(outline ? { outline } : {}),
  });
  function viewsOf(result, id, outlines) {
    const { target_classes: targets } = result.provenance;
    return result.images.map((image, number) => ({
      id: number + 1, exam: id, number, side: image.laterality, view: image.view_position, notes: image.notes,
      width: image.width, height: image.height, score: image.score, marked: [], targets, heat: targets.filter((name) => Object.hasOwn(image.class_maps || {}, name)),
      found: image.detections.map((one, place) => [...one.box_xyxy_px, one.score, targets.includes(one.class) ? "suspicious" : "other",
        moreOf(one, outlines && outlines[number][place])]),
    }));
  }
  const nameOfStudy = (study) => (study.patient_id === study.exam_id ? study.exam_id : study.patient_id);
  const open = saying(async (id) => {
    state.current = id;
    state.exam = null;
    history.replaceState(null, "", id ? `/results/${id}` : "/");
    const study = state.studies.find((one) => one.id === id);
    $("reading").hidden = !study;
    $("empty").hidden = Boolean(study);
    list();
    if (!study) return;
    $("exam-title").textContent = nameOfStudy(study);
    $("exam-id").textContent = study.patient_id === study.exam_id ? "" : study.exam_id;
    $("call").textContent = "";
    $("counts").textContent = "";
    const isDone = study.state === "done";
    $("result").hidden = !isDone;
    $("judge-row").hidden = isDone;
    viewer.show(null);
    if (!isDone) { showState(study); return; }
    const result = await json(`/results/${id}.json`);
    const hasMasks = result.images.some((image) => image.detections.some((one) => "segmentation" in one));
    const outlines = hasMasks ? await json(`/results/${id}/outlines`) : null;
    if (state.current !== id) return; // another one was chosen meanwhile
    state.exam = { views: viewsOf(result, id, outlines) };
    const call = result.decision && result.decision.call;
    $("call").textContent = (call ? `called ${call}, ` : "") + (result.score === null ? "no film was judged" : `score ${digits(result.score)}`);
    $("call").className = `chip ${call || ""}`;
    $("left-out").hidden = !result.left_out.length;
    $("left-out").querySelector("ul").replaceChildren(...result.left_out.map((one) => make("li", {}, `${one.file}: ${one.what}; ${one.why}`)));
    viewer.show(state.exam);
    count();
  });
  function showState(study) {
    const words = { new: "This study has not been judged.", waiting: "It waits to be judged.", running: "It is being judged.", failed: study.problem || "" };
    $("state").textContent = words[study.state];
    $("judge").hidden = !["new", "failed"].includes(study.state);
  }
  function count() {
    if (!state.exam) return;
    const n = state.exam.views.flatMap(viewer.shown).length;
    $("counts").textContent = `${n} marked in ${state.exam.views.length} ${state.exam.views.length === 1 ? "film" : "films"}`;
  }
  function setThreshold(threshold) {
    state.threshold = Math.min(Math.max(threshold, 0), 1);
    $("threshold").value = state.threshold;
    $("threshold").setAttribute("aria-valuetext", `score ${digits(state.threshold)}`);
    if (document.activeElement !== $("exact")) $("exact").value = Number(state.threshold.toPrecision(6));
    viewer.threshold = state.threshold;
    count();
  }
  $("threshold").addEventListener("input", () => setThreshold($("threshold").valueAsNumber));
  $("exact").addEventListener("input", () => {
    const value = $("exact").valueAsNumber;
    if (value >= 0 && value <= 1) setThreshold(value);
  });
  $("to-point").addEventListener("click", () => setThreshold(state.point));
  $("show-found").addEventListener("change", () => $("exam").classList.toggle("no-found", !$("show-found").checked));
  $("judge").addEventListener("click", saying(async () => {
    await json(`/studies/${state.current}`, { method: "POST" });
    await refresh();
  }));
  const save = (suffix, name) => saying(async () => {
    const address = URL.createObjectURL(await (await ask(`/results/${state.current}${suffix}`)).blob());
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });
  $("as-json").addEventListener("click", save(".json", "exam.json"));
  $("as-sr").addEventListener("click", save(".sr.dcm", "sr.dcm"));
  $("as-cad-sr").addEventListener("click", save(".cad-sr.dcm", "cad-sr.dcm"));

  // The list -------------------------------------------------------------------------------------
  const ends = { done: (study) => (study.score === null ? "no film" : `${digits(study.score)}${study.call ? (study.call === "positive" ? " +" : " −") : ""}`) };
  const listed = () => {
    const words = $("search").value.trim().toLowerCase();
    return state.studies.filter((one) => !words || [one.patient_id, one.exam_id].some((id) => id.toLowerCase().includes(words)));
  };
  function list() {
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.study : undefined;
    $("studies").replaceChildren(...listed().map((study) => {
      const end = (ends[study.state] || (() => study.state))(study);
      const button = make("button", { type: "button", "aria-current": String(study.id === state.current), "data-study": study.id },
        make("b", {}, nameOfStudy(study)), make("span", {}, end), make("span", { class: "id" }, study.exam_id));
      button.addEventListener("click", () => open(study.id));
      return make("li", {}, button);
    }));
    if (focused) { const again = $("studies").querySelector(`[data-study="${CSS.escape(focused)}"]`); if (again) again.focus(); }
    const current = $("studies").querySelector("[aria-current=true]");
    if (current) current.scrollIntoView({ block: "nearest", inline: "nearest" });
    $("none").hidden = state.studies.length > 0;
  }
  $("search").addEventListener("input", list);
  function step(by) {
    const all = listed(), place = all.findIndex((one) => one.id === state.current) + by;
    if (all.length) open(all[Math.min(Math.max(place, 0), all.length - 1)].id);
  }
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  let timer = 0;
  const refresh = saying(async () => {
    clearTimeout(timer);
    const before = state.studies.find((one) => one.id === state.current);
    try {
      state.studies = (await json("/studies")).studies;
    } finally {
      const isBusy = state.studies.some((one) => ["waiting", "running"].includes(one.state));
      timer = setTimeout(refresh, isBusy ? WAIT_MS : IDLE_MS);
    }
    list();
    const now = state.studies.find((one) => one.id === state.current);
    if (now && before && now.state !== before.state) await open(now.id);
  });

  // Uploads --------------------------------------------------------------------------------------
  async function filesOf(entry) { // a folder that was dropped, with its sub-folders
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader(), files = [];
    for (;;) { // a hundred at a time
      const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!entries.length) return files;
      for (const one of entries) files.push(...await filesOf(one));
    }
  }
  const send = saying(async (files) => {
    if (!files.length) return;
    say(`sending ${files.length} ${files.length === 1 ? "file" : "files"} ...`);
    const form = new FormData();
    files.forEach((file, i) => form.append("files", file, `file-${i + 1}`)); // names stay here
    const { studies } = await json("/studies", { method: "POST", body: form });
    say(`received: ${studies.length} ${studies.length === 1 ? "study" : "studies"}`);
    await refresh();
    if (studies.length) await open(studies[0].id);
  });
  $("files").addEventListener("change", async () => { await send([...$("files").files]); $("files").value = ""; });
  for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    await send(entries.length ? (await Promise.all(entries.map(filesOf))).flat() : [...event.dataTransfer.files]);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("#keys[open], #ask[open]")) return;
    if (event.target.closest("input:not([type=checkbox], [type=range]), select, textarea")) return;
    const isArrow = event.key.startsWith("Arrow");
    if (isArrow && (viewer.isEnlarged || event.target.closest("input[type=range]"))) return;
    const actions = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), d: () => $("show-found").click(),
      ",": () => setThreshold(state.threshold - 0.01), ".": () => setThreshold(state.threshold + 0.01),
    };
    if (actions[event.key]) { actions[event.key](); event.preventDefault(); }
  });

  saying(async () => {
    const wanted = location.pathname.match(/^\/results\/([^/]+)$/);
    const [model] = await Promise.all([json("/model"), refresh()]);
    state.point = model.score_threshold;
    $("to-point").textContent = `model's ${digits(state.point)}`;
    setThreshold(state.point);
    if (wanted && state.studies.some((one) => one.id === wanted[1])) await open(wanted[1]);
  })();
})();
