"use strict";
// The page's side: what is shown, and what the reader's hands do. Numbers come from the worker, and
// every word from strings.json. `state` is all there is to know of what the reader has chosen.

(() => {
  const material = JSON.parse(document.getElementById("material").textContent);
  const { patients, strings, sprite } = material, { HOSPITALS, CLASSES, SIZE } = Engine;
  const ROUNDS = 30, LEAVES_AFTER = 10, SEEDS = 3, PACE = 45; // milliseconds a round, if it is faster
  const ALPHAS = [0.05, 0.1, 0.2, 0.5, 1, 2, 10, 100];
  const WORDS = ["uneven", "uneven", "uneven", "rather", "rather", "nearly", "nearly", "even"];
  const BEHAVIOURS = ["honest", "leaves", "lies", "noise"], RARE = 2, RARE_AT = 4, LIAR = 1;
  const NAMESPACE = "http://www.w3.org/2000/svg"; // a name, nothing is fetched
  const all = [...Array(HOSPITALS).keys()], labels = Int32Array.from(patients.labels);
  const trainLabels = labels.slice(0, patients.train);
  const $ = id => document.getElementById(id);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  const state = {
    language: "en", alpha: ALPHAS.length - 1, deal: "alpha", dealSeed: 0, owner: null,
    behaviours: all.map(() => "honest"), rule: "average", round: ROUNDS, chosen: null,
    whose: 0, joiner: 0, joined: null, asking: false, run: 0, history: [], queue: [],
    milliseconds: 0, heat: null, askNext: false,
  };
  state.owner = Engine.deal(trainLabels, ALPHAS[state.alpha], state.dealSeed);

  // --- words ------------------------------------------------------------------------------

  function t(key, values = {}) {
    const known = { ...values };
    for (const k of all) known[`h${k}`] = strings[state.language][`h${k}`];
    return strings[state.language][key].replace(/\{(\w+)\}/g, (_, name) => known[name]);
  }

  const number = (value, digits = 2) => Number.isFinite(value)
    ? new Intl.NumberFormat(state.language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value)
    : "–";
  const signed = value => (value > 0 ? "+" : "") + number(value).replace("-", "−");
  const percent = value =>
    new Intl.NumberFormat(state.language, { style: "percent", maximumFractionDigits: 0 }).format(value);
  const list = items => new Intl.ListFormat(state.language).format(items);
  const hospital = k => t(`h${k}`);
  const count = n => t(n === 1 ? "onePatient" : "manyPatients", { count: n });

  // Said by a screen reader, and only what the reader has caused: the end of a run, a move.
  const say = text => { $("live").textContent = text; };

  // --- drawing ----------------------------------------------------------------------------

  function node(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    return filled(made, attributes, children);
  }

  function shape(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(NAMESPACE, tag), attributes, children);
  }

  function filled(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const path = points => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  function curve(values, x, y, kind) {
    const points = values.map((value, r) => [x(r), y(value)]).filter(([, at]) => Number.isFinite(at));
    return shape("path", { d: path(points), class: `curve ${kind}` });
  }

  function xray(patient, attributes = {}) {
    const made = node("span", { class: "xray", ...attributes });
    place(made, patient);
    return made;
  }

  function place(element, patient) { // which cell of the sprite it shows
    element.style.setProperty("--column", patient % 25);
    element.style.setProperty("--line-of", Math.floor(patient / 25));
  }

  const mark = label => node("span", { class: "mark", "data-class": label, "aria-hidden": "true" });

  // --- the map ----------------------------------------------------------------------------

  const SERVER = [180, 92], TOWNS = [[52, 42], [296, 34], [318, 122], [196, 28], [66, 126]];

  function drawMap() {
    const land = "M12 60Q20 12 96 14T230 8T344 30T346 118T262 160T120 162T20 140Z";
    const parts = [
      shape("path", { class: "land", d: land }),
      shape("path", { class: "river", d: "M246 10Q226 52 252 82T238 160" }),
      shape("ellipse", { class: "water", cx: 36, cy: 96, rx: 22, ry: 11 }),
    ];
    const sizes = all.map(k => state.owner.reduce((n, owner) => n + (owner === k), 0));
    TOWNS.forEach(([x, y], k) => {
      const cut = !sizes[k] || state.behaviours[k] === "leaves" && state.round > LEAVES_AFTER;
      parts.push(shape("line", { class: cut ? "road cut" : "road", x1: x, y1: y, x2: SERVER[0], y2: SERVER[1] }));
    });
    parts.push(shape("g", { id: "packets" }), ...server());
    TOWNS.forEach(([x, y], k) => parts.push(town(x, y, k, sizes[k])));
    $("map").replaceChildren(...parts);
    const items = all.map(k => {
      const trouble = state.behaviours[k], words = { hospital: hospital(k), count: count(sizes[k]) };
      if (trouble === "honest") return t("mapItem", words);
      return t("mapItemTrouble", { ...words, trouble: t(`trouble${trouble}`, { round: LEAVES_AFTER }) });
    });
    $("map-says").textContent = t("mapSays", { list: list(items) });
  }

  function server() {
    const [x, y] = SERVER;
    return [
      shape("rect", { class: "box", x: x - 12, y: y - 14, width: 24, height: 28, rx: 3 }),
      ...[-8, 0, 8].map(down => shape("rect", { class: "lights", x: x - 8, y: y + down - 1.5, width: 16, height: 3 })),
      shape("text", { x, y: y + 26 }, t("server")),
    ];
  }

  function town(x, y, k, size) {
    const group = shape("g", {}), trouble = state.behaviours[k] !== "honest", width = 44;
    group.append(
      shape("path", { class: "house", d: `M${x - 11} ${y + 9}v-13l11 -8l11 8v13z` }),
      shape("path", { class: "cross", d: `M${x - 2} ${y - 7}h4v4h4v4h-4v4h-4v-4h-4v-4h4z` }),
    );
    if (trouble) group.append(shape("circle", { class: "trouble", cx: x, cy: y, r: 17 }));
    let from = x - width / 2;
    for (let label = 0; label < CLASSES; label++) {
      const here = trainLabels.reduce((n, one, i) => n + (one === label && state.owner[i] === k), 0);
      const wide = size ? width * here / size : 0;
      group.append(shape("rect", { class: `c${label}`, x: from, y: y + 11, width: wide, height: 4 }));
      from += wide;
    }
    group.append(shape("text", { x, y: y + 25 }, `${k + 1} ${hospital(k)}`));
    return group;
  }

  // Weights on their way, while rounds come in: out to the hospitals, and back.
  function movePackets(time) {
    if (!state.queue.length || calm.matches) return $("packets").replaceChildren();
    const phase = time / 450 % 2, far = phase < 1 ? phase : 2 - phase;
    const there = TOWNS.filter((_, k) => state.owner.includes(k)
      && !(state.behaviours[k] === "leaves" && state.history.length > LEAVES_AFTER));
    $("packets").replaceChildren(...there.map(([x, y]) => shape("rect", {
      class: "packet", width: 8, height: 8, rx: 1,
      x: SERVER[0] + far * (x - SERVER[0]) - 4, y: SERVER[1] + far * (y - SERVER[1]) - 4,
    })));
  }

  // --- the curves -------------------------------------------------------------------------

  const now = () => state.history[Math.min(state.round, state.history.length - 1)];
  const known = values => values.filter(Number.isFinite);

  function drawChart() {
    const x = round => 34 + round * 222 / ROUNDS, y = value => 168 - (value - 0.4) * 245, parts = [];
    for (const value of [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]) {
      parts.push(shape("line", { class: "axis", x1: 34, x2: 256, y1: y(value), y2: y(value) }));
      parts.push(shape("text", { class: "tick", x: 29, y: y(value) + 3, "text-anchor": "end" }, number(value, 1)));
    }
    for (let round = 0; round <= ROUNDS; round += 10)
      parts.push(shape("text", { class: "tick", x: x(round), y: 182, "text-anchor": "middle" }, String(round)));
    parts.push(shape("text", { class: "tick", x: 145, y: 196, "text-anchor": "middle" }, t("chartX")));
    parts.push(shape("text", { class: "tick", x: 4, y: 8 }, t("chartY")));
    const bands = state.history.map(one => known(one.alone)).filter(values => values.length);
    if (bands.length) {
      const edge = pick => bands.map((values, r) => [x(r), y(pick(...values))]);
      parts.push(shape("path", { class: "band", d: `${path([...edge(Math.max), ...edge(Math.min).reverse()])}Z` }));
    }
    const series = {
      pooled: state.history.map(one => one.pooled),
      alone: bands.map(values => values.reduce((a, b) => a + b) / values.length),
      global: state.history.map(one => one.global),
    };
    const names = [];
    for (const [kind, values] of Object.entries(series)) {
      parts.push(curve(values, x, y, kind));
      const last = values[values.length - 1];
      if (Number.isFinite(last)) names.push({ kind, at: y(last) + 4 });
    }
    names.sort((a, b) => a.at - b.at);
    names.forEach((name, i) => { if (i) name.at = Math.max(name.at, names[i - 1].at + 13); });
    const right = x(Math.max(state.history.length - 1, 0)) + 6;
    for (const { kind, at } of names) parts.push(shape("text", { class: `name ${kind}`, x: right, y: at }, t(kind === "alone" ? "aloneBand" : kind)));
    if (state.round < ROUNDS) parts.push(shape("line", { class: "now", x1: x(state.round), x2: x(state.round), y1: 18, y2: 168 }));
    $("chart").replaceChildren(...parts);
    const shown = now();
    if (!shown) {
      $("chart-says").textContent = t("training");
      return;
    }
    const values = known(shown.alone), words = {
      round: Math.min(state.round, state.history.length - 1), global: number(shown.global), pooled: number(shown.pooled),
      low: number(Math.min(...values)), high: number(Math.max(...values)),
    };
    $("chart-says").textContent = t(values.length ? "chartSays" : "chartNoAlone", words);
  }

  function drawWardChart(k) {
    const x = round => 2 + round * 92 / ROUNDS, y = value => 48 - (value - 0.4) * 76;
    const picture = $(`ward-chart-${k}`), kinds = { pooled: one => one.pooled, alone: one => one.alone[k], global: one => one.global };
    picture.replaceChildren(
      shape("line", { class: "axis", x1: 2, x2: 94, y1: y(0.5), y2: y(0.5) }),
      ...Object.entries(kinds).map(([kind, of]) => curve(state.history.map(of), x, y, kind)),
    );
    const first = state.history[0], last = now();
    if (!last) {
      picture.setAttribute("aria-label", t("training"));
      return;
    }
    picture.setAttribute("aria-label", t("wardChart", {
      hospital: hospital(k), first: number(first.alone[k]), last: number(last.alone[k]),
      globalFirst: number(first.global), globalLast: number(last.global), pooled: number(last.pooled),
    }));
    const empty = !state.owner.includes(k), words = { alone: number(last.alone[k]), global: number(last.global) };
    $(`ward-says-${k}`).textContent = empty ? t("wardEmpty") : t("wardSays", words);
  }

  function drawTable() {
    const shown = now();
    if (!shown) return;
    const row = (name, values) => node("tr", {}, node("th", { scope: "row" }, name), ...values.map(value => node("td", {}, value)));
    $("rows").replaceChildren(...all.map(k => row(hospital(k), [
      String(state.owner.filter(owner => owner === k).length),
      number(shown.alone[k]), number(shown.global), number(shown.pooled),
    ])));
  }

  function drawProgress() {
    drawChart();
    all.forEach(drawWardChart);
    drawTable();
    $("round-value").textContent = t("roundOf", { round: Math.min(state.round, Math.max(state.history.length - 1, 0)), rounds: ROUNDS });
  }

  // --- the hospitals ----------------------------------------------------------------------

  const buttons = []; // one a patient; between two hospitals it is in no document

  function buildWards() {
    $("wards").replaceChildren(...all.map(k => {
      const select = node("select", { id: `behaviour-${k}` });
      select.addEventListener("change", () => {
        state.behaviours[k] = select.value;
        changed();
      });
      const header = node("header", {},
        node("div", {}, node("h3", { id: `ward-name-${k}` }), select),
        shape("svg", { id: `ward-chart-${k}`, viewBox: "0 0 96 52", role: "img" }),
      );
      const beds = node("div", { class: "beds", id: `beds-${k}`, role: "group" });
      return node("section", { class: "ward", "data-ward": k, "aria-labelledby": `ward-name-${k}` }, header,
        node("p", { class: "counts", id: `counts-${k}` }), node("p", { class: "counts", id: `ward-says-${k}` }), beds);
    }));
    trainLabels.forEach((label, i) => {
      const button = node("button", { type: "button", class: "patient", id: `patient-${i}`, "data-patient": i, tabindex: -1, "aria-pressed": "false" }, xray(i), mark(label));
      buttons.push(button);
    });
  }

  function drawWards() {
    all.forEach(k => {
      $(`ward-name-${k}`).textContent = `${k + 1} ${hospital(k)}`;
      $(`beds-${k}`).setAttribute("aria-label", t("wardPatients", { hospital: hospital(k) }));
      const select = $(`behaviour-${k}`);
      select.setAttribute("aria-label", t("behaviour", { hospital: hospital(k) }));
      select.replaceChildren(...BEHAVIOURS.map(one => node("option", { value: one }, t(one, { round: LEAVES_AFTER }))));
      select.value = state.behaviours[k];
      fillBeds(k);
    });
    trainLabels.forEach((label, i) => buttons[i].setAttribute("aria-label",
      t("patientName", { number: i + 1, disease: t(`class${label}`) })));
  }

  // By disease, so that one sees at a glance who comes here.
  function fillBeds(k) {
    const own = [...trainLabels.keys()].filter(i => state.owner[i] === k);
    own.sort((a, b) => trainLabels[a] - trainLabels[b] || a - b);
    $(`beds-${k}`).replaceChildren(...own.map(i => buttons[i]));
    own.forEach((patient, i) => { buttons[patient].tabIndex = i ? -1 : 0; });
    const parts = [count(own.length)];
    for (let label = 0; label < CLASSES; label++) {
      const here = own.filter(i => trainLabels[i] === label).length;
      parts.push(mark(label), node("span", { title: t(`class${label}`) }, String(here)));
    }
    $(`counts-${k}`).replaceChildren(...parts);
  }

  function move(patient, to, { keepOpen = false } = {}) {
    const from = state.owner[patient];
    if (from === to || !(to in all)) return;
    state.owner[patient] = to;
    state.deal = "own";
    fillBeds(from);
    fillBeds(to);
    say(t("moved", { number: patient + 1, hospital: hospital(to) }));
    if (keepOpen) choose(patient); else choose(null);
    changed({ quiet: true });
  }

  function choose(patient) {
    if (state.chosen !== null) buttons[state.chosen].setAttribute("aria-pressed", "false");
    state.chosen = patient;
    $("patient").hidden = patient === null;
    if (patient === null) return;
    buttons[patient].setAttribute("aria-pressed", "true");
    drawChosen();
  }

  function drawChosen() {
    const patient = state.chosen;
    if (patient === null) return;
    const words = {
      number: patient + 1, disease: t(`class${trainLabels[patient]}`), sex: t(patients.sexes[patient]),
      age: patients.ages[patient], hospital: hospital(state.owner[patient]),
    };
    place($("patient-image"), patient);
    $("patient-says").textContent = t("patientSays", words);
    $("patient").setAttribute("aria-label", t("patientName", words));
    $("patient-moves").replaceChildren(...all.filter(k => k !== state.owner[patient]).map(k => {
      const button = node("button", { type: "button" }, `${k + 1} ${hospital(k)}`);
      button.addEventListener("click", () => { move(patient, k); buttons[patient].focus(); });
      return button;
    }));
  }

  // --- hands: mouse, finger, keyboard -----------------------------------------------------

  const drag = { patient: null, ghost: null, timer: 0, x: 0, y: 0, done: false };

  function pressed(event) {
    const button = event.target.closest("[data-patient]");
    if (!button || event.button) return;
    Object.assign(drag, { patient: Number(button.dataset.patient), x: event.clientX, y: event.clientY, done: false });
    // A finger that moves at once scrolls the page; one that rests first takes the patient along.
    if (event.pointerType === "touch") drag.timer = setTimeout(() => lift(drag.x, drag.y), 220);
  }

  function lift(x, y) {
    const button = buttons[drag.patient];
    drag.ghost = button.cloneNode(true);
    drag.ghost.removeAttribute("id");
    drag.ghost.setAttribute("aria-hidden", "true");
    drag.ghost.classList.add("ghost");
    button.classList.add("dragged");
    document.body.append(drag.ghost);
    carry(x, y);
  }

  function moved(event) {
    if (drag.patient === null) return;
    const far = Math.hypot(event.clientX - drag.x, event.clientY - drag.y);
    if (!drag.ghost) {
      if (event.pointerType === "touch") { if (far > 8) forget(); return; }
      if (far < 4) return;
      lift(event.clientX, event.clientY);
    }
    carry(event.clientX, event.clientY);
  }

  function carry(x, y) {
    drag.ghost.style.left = `${x - 14}px`;
    drag.ghost.style.top = `${y - 19}px`;
    if (y < 60) scrollBy(0, -12); // at the edge the page goes along
    if (y > innerHeight - 60) scrollBy(0, 12);
    const ward = wardAt(x, y);
    for (const one of document.querySelectorAll(".ward")) one.classList.toggle("target", one === ward);
  }

  const wardAt = (x, y) => document.elementFromPoint(x, y)?.closest("[data-ward]");

  function dropped(event) {
    if (drag.ghost) {
      const ward = wardAt(event.clientX, event.clientY), { patient } = drag;
      forget();
      drag.done = true; // the click that follows is none
      setTimeout(() => { drag.done = false; });
      if (ward) move(patient, Number(ward.dataset.ward));
    } else forget();
  }

  function forget() {
    clearTimeout(drag.timer);
    if (drag.patient !== null) buttons[drag.patient].classList.remove("dragged");
    drag.ghost?.remove();
    document.querySelector(".ward.target")?.classList.remove("target");
    Object.assign(drag, { patient: null, ghost: null });
  }

  function clicked(event) {
    const button = event.target.closest("[data-patient]");
    if (!button || drag.done) return;
    const patient = Number(button.dataset.patient);
    if (patient === state.chosen) return choose(null);
    choose(patient);
    $("patient-moves").firstChild.focus({ preventScroll: true });
  }

  function keyed(event) {
    if (event.key === "Escape" && state.chosen !== null) {
      const button = buttons[state.chosen];
      choose(null);
      return button.focus();
    }
    const button = event.target.closest("[data-patient]");
    if (!button || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = Number(event.key) - 1;
    if (to in all) {
      const beds = [...button.parentNode.children], next = beds[beds.indexOf(button) + 1] || beds[beds.indexOf(button) - 1];
      move(Number(button.dataset.patient), to);
      return (next && state.owner[Number(next.dataset.patient)] !== to ? next : button).focus();
    }
    walk(event, button);
  }

  function walk(event, button) {
    const beds = [...button.parentNode.children], at = beds.indexOf(button);
    const across = Math.max(beds.filter(one => one.offsetTop === beds[0].offsetTop).length, 1);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -at, End: beds.length - 1 - at };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = beds[at + steps[event.key]];
    if (!next) return;
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  // --- what the model looks at ------------------------------------------------------------

  function askHeat() {
    if (state.history.length <= state.round) return;
    worker.postMessage({ type: "heat", id: state.run, round: state.round, hospital: state.whose, patient: Number($("test").value) });
  }

  function drawHeat() {
    const answer = state.heat, patient = Number($("test").value);
    $("test-value").textContent = `${patient + 1}, ${t(`class${labels[patients.train + patient]}`)}`;
    if (!answer) return;
    const area = SIZE * SIZE, ill = answer.label > 0, disease = t(`class${answer.label}`);
    const models = [t("heatGlobal"), t("heatAlone", { hospital: hospital(answer.hospital) })];
    [null, ...answer.maps].forEach((map, i) => paint($(`heat-${i}`), answer, map));
    $("heat-0").setAttribute("aria-label", t("heatImage", { number: answer.patient + 1, disease, lesion: t(ill ? "lesionOutlined" : "noLesion") }));
    answer.maps.forEach((map, i) => {
      let sum = 0, inside = 0;
      for (let j = 0; j < area; j++) { sum += map[j]; inside += map[j] * answer.lesion[j]; }
      const key = sum ? ill ? "heatMap" : "heatMapNormal" : "heatMapNone";
      const sentence = t(key, { model: models[i], disease, share: percent(inside / sum) });
      $(`heat-${i + 1}`).setAttribute("aria-label", sentence);
      $(`heat-says-${i + 1}`).textContent = sum ? models[i] : sentence;
    });
    const [ofGlobal, ofAlone] = answer.inside;
    $("heat-says").textContent = t("heatSays", {
      round: answer.round, global: percent(ofGlobal), alone: percent(ofAlone),
      hospital: hospital(answer.hospital), chance: percent(answer.chance),
    });
  }

  // The X-ray, over it the heat from violet to yellow, and the outline of the lesion.
  function paint(canvas, { pixels, lesion }, map) {
    const pen = canvas.getContext("2d"), cell = canvas.width / SIZE;
    pixels.forEach((grey, j) => {
      const heat = map ? map[j] : 0, share = 0.75 * Math.sqrt(heat), x = j % SIZE, y = Math.floor(j / SIZE);
      const colour = [90 + 165 * heat, 30 + 200 * heat, 140 - 110 * heat].map(part => grey * (1 - share) + part * share);
      pen.fillStyle = `rgb(${colour.map(Math.round)})`;
      pen.fillRect(x * cell, y * cell, cell, cell);
    });
    for (const [style, dash] of [["#000", []], ["#fff", [4, 4]]]) {
      pen.strokeStyle = style;
      pen.lineWidth = 2;
      pen.setLineDash(dash);
      pen.beginPath();
      outline(lesion, (x1, y1, x2, y2) => { pen.moveTo(x1 * cell, y1 * cell); pen.lineTo(x2 * cell, y2 * cell); });
      pen.stroke();
    }
  }

  function outline(mask, edge) {
    const is = (x, y) => x >= 0 && y >= 0 && x < SIZE && y < SIZE && mask[y * SIZE + x];
    for (let y = 0; y <= SIZE; y++) for (let x = 0; x <= SIZE; x++) {
      if (!is(x, y) !== !is(x - 1, y)) edge(x, y, x, y + 1);
      if (!is(x, y) !== !is(x, y - 1)) edge(x, y, x + 1, y);
    }
  }

  // --- should it join? --------------------------------------------------------------------

  function ask() {
    state.joined = null;
    state.asking = state.owner.includes(state.joiner);
    drawJoin();
    if (state.asking) worker.postMessage({ type: "join", id: state.run, setup: setup(), hospital: state.joiner, rounds: ROUNDS, seeds: SEEDS });
  }

  function drawJoin() {
    const { joined } = state;
    $("ask").disabled = state.asking;
    const who = { hospital: hospital(joined ? joined.hospital : state.joiner) };
    const parts = gainAxis(joined), sentences = [];
    if (joined) ["itself", "others"].forEach((whose, row) => {
      const gain = joined[whose], key = row ? "joinOthers" : "joinItself";
      parts.push(...gainRow(gain, 38 + 42 * row, t(key, who)));
      sentences.push(t(`${key}${gain.verdict}`, {
        ...who, before: number(gain.before), after: number(gain.after),
        value: signed(gain.value), low: signed(gain.low), high: signed(gain.high),
      }));
    });
    else if (state.asking) sentences.push(t("asking"));
    else sentences.push(state.owner.includes(state.joiner) ? t("askFirst") : t("joinEmpty", who));
    $("gains").replaceChildren(...parts);
    const text = sentences.join(" ");
    if ($("join-says").textContent !== text) $("join-says").textContent = text; // said once
  }

  const GAIN = 0.4, gainX = value => 180 + Math.max(-GAIN, Math.min(GAIN, value)) * 160 / GAIN;

  function gainAxis() {
    const parts = [];
    for (const value of [-0.4, -0.2, 0, 0.2, 0.4]) {
      parts.push(shape("line", { class: value ? "axis" : "zero", x1: gainX(value), x2: gainX(value), y1: 8, y2: 96 }));
      parts.push(shape("text", { class: "tick", x: gainX(value), y: 108, "text-anchor": "middle" }, number(value, 1).replace("-", "−")));
    }
    parts.push(shape("text", { class: "tick", x: 180, y: 123, "text-anchor": "middle" }, t("joinAxis")));
    return parts;
  }

  function gainRow(gain, y, name) {
    return [
      shape("text", { class: "name", x: 20, y: y - 16 }, name),
      shape("line", { class: "interval", x1: gainX(gain.low), x2: gainX(gain.high), y1: y, y2: y }),
      shape("rect", { class: "value", x: gainX(gain.value) - 4, y: y - 4, width: 8, height: 8 }),
      ...gain.seeds.map(seed => shape("circle", { class: "seed", cx: gainX(seed), cy: y + 10, r: 2.5 })),
    ];
  }

  // --- the run ----------------------------------------------------------------------------

  const setup = () => ({
    owner: state.owner.slice(), behaviours: [...state.behaviours], rule: state.rule, leavesAfter: LEAVES_AFTER, seed: 0,
  });

  let waiting = 0, shownAt = 0;

  function changed({ quiet = false } = {}) {
    clearTimeout(waiting);
    state.joined = null;
    state.asking = false;
    state.round = ROUNDS;
    $("round").value = ROUNDS;
    drawChoices();
    drawMap();
    drawJoin();
    waiting = setTimeout(start, quiet ? 350 : 60);
  }

  function start() {
    Object.assign(state, { run: state.run + 1, history: [], queue: [], heat: null, joined: null, asking: false });
    drawJoin();
    $("chart").setAttribute("aria-busy", "true");
    $("speed").textContent = t("training");
    worker.postMessage({ type: "run", id: state.run, setup: setup(), rounds: ROUNDS });
  }

  // Rounds come faster than eyes can follow; each is shown for a moment.
  function tick(time) {
    const next = calm.matches ? state.queue.length : Number(state.queue.length > 0 && time - shownAt >= PACE);
    if (next) {
      shownAt = time;
      state.history.push(...state.queue.splice(0, next));
      drawProgress();
      if (state.history.length > ROUNDS) finished();
    }
    movePackets(time);
    if (state.history.length <= ROUNDS) requestAnimationFrame(tick); else ticking = false;
  }

  let ticking = false;

  function finished() {
    const last = state.history[ROUNDS];
    $("chart").setAttribute("aria-busy", "false");
    say(t("live", { rounds: ROUNDS, global: number(last.global), pooled: number(last.pooled) }));
    drawSpeed();
    askHeat();
    if (state.askNext) { state.askNext = false; ask(); }
  }

  function drawSpeed() {
    if (state.history.length > ROUNDS) $("speed").textContent = t("speed", { rounds: ROUNDS, seconds: number(state.milliseconds / 1000) });
  }

  const answers = {
    loaded: start,
    round({ id, auc, milliseconds }) {
      if (id !== state.run) return;
      state.milliseconds = milliseconds;
      state.queue.push(auc);
      if (!ticking) { ticking = true; requestAnimationFrame(tick); }
    },
    heat(answer) {
      if (answer.id !== state.run) return;
      state.heat = answer;
      drawHeat();
    },
    join(answer) {
      if (answer.id !== state.run) return;
      Object.assign(state, { joined: answer, asking: false });
      drawJoin();
    },
  };

  // --- what the reader chooses ------------------------------------------------------------

  const guides = {
    even: {},
    rare: { deal: "rare" },
    liar: { behaviours: all.map(k => k === LIAR ? "lies" : "honest") },
    join: { deal: "rare", joiner: RARE_AT, askNext: true },
  };

  function follow(guide) {
    Object.assign(state, {
      deal: "alpha", alpha: ALPHAS.length - 1, dealSeed: 0, rule: "average",
      behaviours: all.map(() => "honest"), askNext: false, ...guides[guide],
    });
    redeal();
    $(guide === "join" ? "join-title" : "play").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  }

  function redeal() {
    state.owner = state.deal === "rare"
      ? Engine.dealRare(trainLabels, RARE, RARE_AT)
      : Engine.deal(trainLabels, ALPHAS[state.alpha], state.dealSeed);
    choose(null);
    all.forEach(fillBeds);
    changed();
  }

  function drawChoices() {
    $("alpha").value = state.alpha;
    const alpha = number(ALPHAS[state.alpha], ALPHAS[state.alpha] < 0.1 ? 2 : ALPHAS[state.alpha] < 1 ? 1 : 0);
    const text = state.deal === "alpha" ? t("alphaText", { alpha, word: t(WORDS[state.alpha]) })
      : t(state.deal === "rare" ? "alphaRare" : "alphaMoved");
    $("alpha-value").textContent = text;
    $("alpha").setAttribute("aria-valuetext", text);
    for (const radio of document.getElementsByName("rule")) radio.checked = radio.value === state.rule;
    all.forEach(k => { $(`behaviour-${k}`).value = state.behaviours[k]; });
    $("whose").value = state.whose;
    $("joiner").value = state.joiner;
  }

  function speak(language) {
    state.language = language;
    document.documentElement.lang = language;
    const facts = {
      size: SIZE, train: patients.train, test: labels.length - patients.train, batch: Engine.BATCH,
      rate: number(Engine.RATE), lie: number(Engine.LIE, 0).replace("-", "−"), noise: number(Engine.NOISE, 1),
      weights: number(Engine.initial(0).reduce((n, part) => n + part.length, 0), 0),
    };
    for (const one of document.querySelectorAll("[data-t]")) one.textContent = t(one.dataset.t, facts);
    for (const one of document.querySelectorAll("[data-label]")) one.setAttribute("aria-label", t(one.dataset.label));
    for (const one of document.querySelectorAll("[data-language]")) one.setAttribute("aria-pressed", String(one.dataset.language === language));
    for (const one of document.querySelectorAll("[data-hospitals]")) one.replaceChildren(...all.map(k => node("option", { value: k }, hospital(k))));
    $("key").replaceChildren(...[...Array(CLASSES).keys()].map(label => node("li", {}, mark(label), " ", t(`class${label}`))));
    drawWards();
    drawChoices();
    drawChosen();
    drawMap();
    drawProgress();
    drawHeat();
    drawJoin();
    drawSpeed();
  }

  function listen() {
    const on = (id, event, action) => $(id).addEventListener(event, action);
    on("alpha", "input", () => { Object.assign(state, { alpha: Number($("alpha").value), deal: "alpha" }); redeal(); });
    on("again", "click", () => { Object.assign(state, { deal: "alpha", dealSeed: state.dealSeed + 1 }); redeal(); });
    on("round", "input", () => { state.round = Number($("round").value); drawProgress(); drawMap(); askHeat(); });
    on("test", "input", () => { drawHeat(); askHeat(); });
    on("whose", "change", () => { state.whose = Number($("whose").value); drawHeat(); askHeat(); });
    on("joiner", "change", () => { Object.assign(state, { joiner: Number($("joiner").value), joined: null }); drawJoin(); });
    on("ask", "click", ask);
    on("patient-close", "click", () => { const { chosen } = state; choose(null); buttons[chosen].focus(); });
    for (const radio of document.getElementsByName("rule"))
      radio.addEventListener("change", () => { state.rule = radio.value; changed(); });
    for (const button of document.querySelectorAll("[data-language]"))
      button.addEventListener("click", () => speak(button.dataset.language));
    for (const button of document.querySelectorAll("[data-guide]"))
      button.addEventListener("click", () => follow(button.dataset.guide));
    on("wards", "pointerdown", pressed);
    on("wards", "click", clicked);
    document.addEventListener("keydown", keyed);
    document.addEventListener("pointermove", moved);
    document.addEventListener("pointerup", dropped);
    document.addEventListener("pointercancel", forget);
    document.addEventListener("touchmove", event => { if (drag.ghost) event.preventDefault(); }, { passive: false });
    on("wards", "contextmenu", event => { if (drag.patient !== null) event.preventDefault(); });
    on("wards", "dragstart", event => event.preventDefault());
  }

  function startWorker() {
    const code = ["engine", "worker"].map(id => $(id).textContent);
    const made = new Worker(URL.createObjectURL(new Blob(code, { type: "text/javascript" })));
    made.onmessage = ({ data }) => answers[data.type](data);
    made.onerror = () => { $("old").hidden = false; };
    made.postMessage({ type: "load", material: { patients, sprite, lesions: material.lesions } });
    return made;
  }

  const style = new CSSStyleSheet();
  style.replaceSync(`.xray{background-image:url(data:image/png;base64,${sprite})}`);
  document.adoptedStyleSheets = [style];
  if (typeof DecompressionStream === "undefined") $("old").hidden = false;
  $("test").max = labels.length - patients.train - 1;
  $("test").value = labels.slice(patients.train).indexOf(RARE);
  buildWards();
  const preferred = navigator.languages.map(one => one.slice(0, 2)).find(one => one in strings);
  speak(preferred || state.language);
  listen();
  const worker = startWorker();
})();
