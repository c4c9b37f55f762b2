// The labelling page. The server holds the truth: every reply has the whole page and its counts,
// and this script draws them. Answers are drawn at once and sent in order, one at a time, until each
// has its reply; a number that ascends keeps a repeated one from being counted twice. Until then
// the browser keeps them too, for a page that is opened once the server is there again.

const TAB = [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(16)).join("");
const POLL = 4000; // milliseconds between looks for new suggestions
const SETTLED = 120; // milliseconds on a chip before its neighbours are asked for
const ENOUGH = 10; // random checks before which shares would say little
const BLIND = ["random", "check"]; // chips without suggestion, so that answers can measure it
const MARKS = { unsure: "?", skip: "–" };
const OWN = ["ArrowUp", "ArrowDown", "Home", "End", " "]; // keys that a list of choices needs

let session; // what stays the same
let state = { status: null, page: [] };
let current = 0; // index of the chip in focus
let since = performance.now(); // when it came into focus
let orders = 0;
let armed = 0; // suggestions that a second A confirms
let sending = false;
let isKept = false; // whether the browser keeps what waits
let looking = new AbortController(); // for neighbours of the chip in focus
const waiting = []; // orders without a reply

const $ = (id) => document.getElementById(id);
const chips = () => [...$("chips").querySelectorAll("button")];
const items = (page) => page.map((chip) => chip.item);
const isOpen = (chip) => answerOf(chip) === null;
const whole = (share) => Math.round(100 * share);
const percent = (share) => `${whole(share)} %`;
const within = ([value, low, high]) => [percent(value), `${whole(low)}–${percent(high)}`];
const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const breakable = (name) => name.replace(/[/_-]/g, "$&\u200b");

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function tell(text, isWarning = false) {
  $("message").textContent = text;
  $("message").classList.toggle("warn", isWarning);
}

// ---------------------------------------------------------------- the server

async function ask(path, body) {
  return (await request(path, body)).json();
}

async function request(path, body) {
  const headers = { "content-type": "application/json" };
  const reply = await fetch(path, body && { method: "POST", headers, body: JSON.stringify(body) });
  if (reply.ok) return reply;
  const text = await reply.text();
  const error = text.startsWith("{") ? JSON.parse(text).error : text;
  throw Object.assign(new Error(error), { status: reply.status });
}

function order(path, body = {}) {
  orders += 1;
  waiting.push({ path, body: { session: session.id, tab: TAB, number: orders, ...body } });
  keep();
  draw();
  if (!sending) send();
}

const keptBy = (tab) => `tailora-label ${session.id} ${tab}`;

function keep() {
  try {
    if (waiting.length) localStorage.setItem(keptBy(TAB), JSON.stringify(waiting));
    else localStorage.removeItem(keptBy(TAB));
    isKept = true;
  } catch {
    isKept = false; // the browser is set to keep nothing
  }
}

// Takes over what other pages of this session could not send; the server does nothing twice.
function takeOver() {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(keptBy("")));
    for (const key of keys) waiting.push(...JSON.parse(localStorage.getItem(key)));
    keep();
    for (const key of keys) localStorage.removeItem(key);
  } catch {
    isKept = false;
  }
}

function answersWaiting() {
  const of = ({ path, body }) => (path === "answer" ? 1 : Object.keys(body.answers ?? {}).length);
  return waiting.reduce((sum, one) => sum + of(one), 0);
}

function tellNotSaved({ status, message }) {
  const doIt = {
    403: "open the address that `tailora label` printed",
    undefined: "the server does not answer; start it again with the same command",
  };
  const count = answersWaiting();
  const [wait, are] = count === 1 ? ["waits", "is"] : ["wait", "are"];
  const where = `${wait} in this ${isKept ? "browser" : "page"} and ${are} then sent`;
  const kept = count ? `: your ${counted(count, "answer")} ${where}` : "";
  tell(`Not saved yet: ${doIt[status] ?? message}${kept}.`, true);
}

async function send() {
  sending = true;
  for (let pause = 250; waiting.length; ) {
    const { path, body } = waiting[0];
    try {
      const reply = await ask(path, body);
      waiting.shift();
      keep();
      if (pause > 250) tell("Saved.");
      pause = 250;
      show(reply, path);
    } catch (error) {
      if ([404, 422].includes(error.status)) {
        waiting.shift();
        keep();
        tell(error.message, true);
        draw();
        continue;
      }
      tellNotSaved(error);
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(2 * pause, 5000);
    }
  }
  sending = false;
}

async function poll() {
  const seen = orders;
  try {
    const reply = document.hidden || sending ? null : await ask("state");
    if (reply && seen === orders) show(reply, "state");
  } catch (error) {
    tell(error.status ? error.message : "The server does not answer: is it running?", true);
  }
  setTimeout(poll, POLL);
}

function show(reply, path) {
  if (reply.session !== session.id) {
    tell("Another session is served here now: reload this page.", true);
    return;
  }
  const before = state;
  state = reply;
  if (items(before.page).join() !== items(state.page).join()) {
    build();
    moveTo(Math.max(0, firstOpen()));
    tell(whatIsLeft());
  } else if (before.status && state.status.version > before.status.version && leftOfAll()) {
    tell(`New suggestions, version ${state.status.version}, from the next page on.`);
  }
  const { failed } = state.status;
  if (failed && failed !== before.status?.failed) tell(`No new suggestions: ${failed}`, true);
  if (path === "undo") tellUndone(reply.undone);
  draw();
}

function tellUndone(undone) {
  if (undone === null) return; // done before, and asked for again
  const places = undone.map((item) => items(state.page).indexOf(item)).filter((i) => i >= 0);
  if (places.length) moveTo(Math.min(...places));
  if (!undone.length) tell("Nothing to undo.");
  else if (undone.length > 1) tell(`Undone: ${undone.length} answers.`);
  else if (!places.length) tell("Undone, on an earlier page.");
  else tell(`Undone: ${session.one} ${places[0] + 1}.`);
}

// ---------------------------------------------------------------- what is shown

function answerOf(chip) {
  const given = ({ path, body }) =>
    path === "answer" && body.item === chip.item ? body.answer : body.answers?.[chip.item];
  return waiting.map(given).findLast((text) => text !== undefined) ?? chip.answer;
}

// Images without an answer, on this page or not.
function leftOfAll() {
  const waits = state.page.filter((chip) => chip.answer === null && !isOpen(chip));
  return state.status.left - waits.length;
}

function whatIsLeft() {
  const [left, all] = [state.page.filter(isOpen).length, state.page.length];
  if (!leftOfAll() || !all) return endOf()[0];
  if (!left) return "All answered: N for the next page, U to undo.";
  if (left < all) return `${left} of ${all} left on this page.`;
  return `${counted(all, session.one)} to label.`;
}

// What to say and do when no page comes after this one.
function endOf() {
  const { status } = state;
  if (leftOfAll()) {
    const left = `${counted(leftOfAll(), session.one)} without an answer`;
    return [`Nothing is left for ${status.phase}.`, `Choose another phase under Show for ${left}.`];
  }
  const fresh = state.page.filter((chip) => chip.answer === null).map(answerOf);
  const unsure = status.unsure + fresh.filter((answer) => answer === "unsure").length;
  const skipped = status.skipped + fresh.filter((answer) => answer === "skip").length;
  const others = unsure + skipped > 0;
  const which = others ? `, ${unsure} unsure and ${skipped} skipped` : "";
  const all = `All ${status.pool.toLocaleString("en")} are ${others ? "answered" : "labelled"}`;
  return [`${all}${which}.`, "Ctrl-C in the terminal, then", session.export];
}

// What a chip may be: by the suggestions, or before there are any by the search for a class.
function offerOf(chip) {
  return BLIND.includes(chip.acquisition) ? null : (chip.suggestion ?? chip.wanted);
}

function firstOpen(after = -1) {
  const open = state.page.flatMap((chip, i) => (isOpen(chip) ? [i] : []));
  return open.find((i) => i > after) ?? open[0] ?? -1;
}

function address(kind, item, scale) {
  const look = `bands=${$("bands").value}&contrast=${$("contrast").value}`;
  return `${kind}${item}.png?${look}&scale=${scale}&v=${session.version}`;
}

function setImage(image, source, alt) {
  image.alt = alt;
  if (image.getAttribute("src") !== source) image.src = source;
}

// An image that does not come does not know why: the server says so when it is asked again.
function tellLost({ target }) {
  request(target.src).catch((error) => tell(`No picture: ${error.message}`, true));
}

function swatch(name) {
  const square = make("span", { className: "swatch", ariaHidden: "true" });
  square.style.backgroundColor = session.classes.find((one) => one.name === name)?.colour;
  return square;
}

function build() {
  armed = 0;
  const made = state.page.map((_, i) => {
    const image = make("img", { alt: "", decoding: "async" });
    const lost = make("span", { className: "lost" }, "no picture");
    const said = make("span", { className: "said" });
    const button = make("button", { type: "button" }, image, lost, said);
    image.addEventListener("error", () => button.classList.add("broken"));
    image.addEventListener("load", () => button.classList.remove("broken"));
    image.addEventListener("error", tellLost);
    for (const event of ["focus", "click"]) button.addEventListener(event, () => moveTo(i));
    return make("li", {}, button);
  });
  $("chips").replaceChildren(...made);
}

function draw() {
  if (!state.status) return;
  drawFigures();
  drawClasses();
  chips().forEach(drawChip);
  const left = state.page.filter(isOpen);
  const suggested = left.filter((chip) => chip.suggestion).length;
  $("confirm-all").hidden = !suggested;
  $("confirm-all").firstChild.data = `Confirm ${counted(suggested, "suggestion")} `;
  $("next").hidden = !state.page.length || !leftOfAll();
  $("next").firstChild.data = left.length ? `Next page (${left.length} left) ` : "Next page ";
  drawEnd();
  drawFocus();
}

function drawEnd() {
  const told = $("next").hidden ? endOf() : [];
  $("done").hidden = !told.length;
  [...$("done").children].forEach((part, i) => {
    if (part.textContent !== (told[i] ?? "")) part.textContent = told[i] ?? "";
  });
}

function drawChip(button, i) {
  const chip = state.page[i];
  const [answer, offer] = [answerOf(chip), offerOf(chip)];
  const sure = chip.suggestion && chip.probability !== null ? percent(chip.probability) : "";
  const name = (text) => make("span", { className: "name" }, breakable(text));
  setImage(button.firstChild, address("chip/", chip.item, 0), "");
  button.classList.toggle("answered", answer !== null);
  button.tabIndex = i === current ? 0 : -1;
  button.ariaCurrent = i === current ? "true" : null;
  let words = BLIND.includes(chip.acquisition) ? "random check" : "which class?";
  let parts = [name(words)];
  if (answer !== null) {
    words = `answer: ${answer}`;
    const mark = make("span", { className: "mark" }, MARKS[answer] ?? "✓");
    parts = [mark, ...(answer in MARKS ? [] : [swatch(answer)]), name(answer)];
  } else if (offer !== null) {
    words = `suggested: ${offer} ${sure}`;
    parts = [swatch(offer), name(`${offer}?`), make("small", {}, sure)];
  }
  button.lastChild.replaceChildren(...parts);
  button.ariaLabel = `${session.one} ${i + 1} of ${state.page.length}, ${chip.name}, ${words}`;
}

const MEANS = {
  answered: "Those with an answer, of all that can be shown.",
  "rare F1 among labels":
    "Mean F1 of the rarest third of the classes over your labels, by heads that have not seen "
    + "them: whether the head gets better, not how good it is on all, since labels were chosen.",
  "right in random checks":
    `Share of those drawn at random whose class the head says right unseen: its accuracy, from `
    + `${ENOUGH} of them on.`,
  "labels an hour": "Without breaks of over two minutes; from 20 answers on.",
  "new classes per 50 labels":
    "Classes that each 50 labels brought for the first time; zeros say that a search has seen most.",
  suggestions: "What suggests learns your answers again after about ten, which is a new version.",
};

function drawFigures() {
  const { status } = state;
  const fresh = status.new_classes_per_50;
  const pool = status.pool.toLocaleString("en");
  const others = `of ${pool}, ${status.unsure} unsure, ${status.skipped} skipped`;
  const lacks = ENOUGH - status.drawn;
  const right = status.accuracy && within(status.accuracy);
  const rows = {
    answered: [status.answered, others],
    "rare F1 among labels": status.rare_f1 && within(status.rare_f1),
    "right in random checks": lacks > 0 ? ["not yet", `${lacks} more needed`] : right,
    "labels an hour": [status.labels_per_hour?.toFixed(0) ?? "not yet"],
    "new classes per 50 labels": [fresh.slice(-6).join(", ") || "not yet"],
    suggestions: [status.version ? `version ${status.version}` : "none yet"],
  };
  const made = Object.entries(rows).map(([name, found]) => {
    const [value, detail = ""] = found ?? ["not yet"];
    const parts = [make("dt", {}, name), make("dd", {}, `${value} `, make("small", {}, detail))];
    return make("div", { title: MEANS[name] }, ...parts);
  });
  $("figures").replaceChildren(...made);
  $("more").firstElementChild.textContent = `${status.answered} of ${pool} answered`;
  drawFailure(status.failed);
  $("phase").options[0].text = status.automatic ? `automatic: ${status.phase}` : "automatic";
  if (document.activeElement === $("phase")) return; // a choice is being made
  $("phase").value = status.automatic ? "" : status.phase;
}

function drawFailure(why) {
  const told = `Suggestions could not be renewed: ${why}. Answers are safe; the next page tries again.`;
  $("failed").hidden = why === null;
  // an alert that is written again is read out again
  if (why !== null && $("failed").textContent !== told) $("failed").textContent = told;
}

function drawClasses() {
  const { counts, target, prevalence, drawn } = state.status;
  $("shares").hidden = drawn >= ENOUGH;
  const lacks = counted(ENOUGH - drawn, "more random check");
  $("shares").textContent = `Share of each class: after ${lacks}.`;
  for (const button of $("classes").querySelectorAll("button")) {
    const [name, has] = [button.dataset.name, (part) => button.querySelector(part)];
    has(".count").textContent = `${counts[name]}/${target}`;
    has(".bar span").style.width = `${Math.min(100, (100 * counts[name]) / target)}%`;
    const [share, range] = drawn >= ENOUGH && prevalence[name] ? within(prevalence[name]) : [];
    has(".share").textContent = share ? `about ${share} of all (${range})` : "";
  }
}

function drawFocus() {
  const chip = state.page[current];
  document.querySelector("aside").hidden = !chip;
  if (!chip) return;
  const [answer, offer] = [answerOf(chip), offerOf(chip)];
  const said = answer ?? (offer === null ? "no suggestion" : `${offer}?`);
  $("chip-name").textContent = breakable(chip.name);
  $("zoom-text").textContent = `${current + 1} of ${state.page.length}: ${said}`;
  for (const id of ["near", "zoomed"]) {
    setImage($(id), address("chip/", chip.item, 1), `${session.one} ${chip.name}`);
  }
  if (chip.place) drawPlace(chip);
}

function drawPlace(chip) {
  const [left, top, width, height] = chip.place;
  const [x, y] = [percent(left + width / 2), percent(top + height / 2)];
  setImage($("around"), address("surroundings/", chip.item, 1), `Surroundings of ${chip.name}`);
  setImage($("scene"), address("overview", "", 1), "The whole scene");
  const edges = { left, top, width, height };
  for (const [name, value] of Object.entries(edges)) $("place").style[name] = `${100 * value}%`;
  $("place-text").textContent = `Place in the scene: ${x} from the left, ${y} from the top`;
}

async function lookAround(chip) {
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  const isBlind = BLIND.includes(chip.acquisition);
  const found = $("neighbours");
  found.replaceChildren();
  $("no-neighbours").textContent = isBlind ? "Not shown: random checks have no hints." : "";
  await new Promise((resolve) => setTimeout(resolve, SETTLED));
  if (signal.aborted) return; // moved on
  let none = `No ${session.one} is labelled yet.`;
  const lost = (error) => {
    none = `Not known: ${error.message}`;
    return [];
  };
  const near = isBlind ? [] : await ask(`neighbours/${chip.item}`).catch(lost);
  if (signal.aborted) return;
  if (!isBlind && !near.length) $("no-neighbours").textContent = none;
  for (const { item, answer } of near) {
    const image = make("img", { alt: "", src: address("chip/", item, 0) });
    found.append(make("li", {}, image, swatch(answer), breakable(answer)));
  }
  await fetchAhead();
}

// Pictures of the chip that comes next, and of the next page once half of this one is answered.
async function fetchAhead() {
  const next = state.page[firstOpen(current)];
  const kinds = next ? ["chip/", ...(next.place ? ["surroundings/"] : [])] : [];
  for (const kind of kinds) new Image().src = address(kind, next.item, 1);
  if (2 * state.page.filter(isOpen).length > state.page.length) return;
  const coming = await ask("upcoming").catch(() => []); // the next page will tell
  for (const item of coming) new Image().src = address("chip/", item, 0);
}

// ---------------------------------------------------------------- what is done

function moveTo(index) {
  const isNew = index !== current || !$("chips").querySelector("[aria-current]");
  current = index;
  if (isNew) {
    since = performance.now();
    draw();
    if (state.page[index]) lookAround(state.page[index]);
  }
  const button = chips()[index];
  if (!document.querySelector("dialog[open]") && document.activeElement !== button) button?.focus();
}

function moveOn(text) {
  const next = firstOpen(current);
  const left = state.page.filter(isOpen).length;
  if (next >= 0) moveTo(next);
  else if ($("next").hidden) $("done").scrollIntoView({ block: "center" });
  else if (!document.querySelector("dialog[open]")) $("next").focus();
  tell(`${text} ${left ? `${left} left.` : whatIsLeft()}`);
}

function answer(text) {
  const chip = state.page[current];
  if (!chip) return;
  const seconds = (performance.now() - since) / 1000;
  order("answer", { item: chip.item, answer: text, seconds });
  moveOn(`${session.one} ${current + 1}: ${text}.`);
}

function confirmOne() {
  const offer = state.page[current] && offerOf(state.page[current]);
  if (offer) answer(offer);
  else tell(`This ${session.one} has no suggestion: press the key of a class.`);
}

function confirmAll() {
  const left = state.page.filter((chip) => isOpen(chip) && chip.suggestion);
  if (armed !== left.length) {
    armed = left.length;
    tell(`A again confirms ${counted(armed, "suggestion")} at once.`, true);
  } else if (armed) {
    armed = 0;
    const answers = Object.fromEntries(left.map((chip) => [chip.item, chip.suggestion]));
    order("confirm", { answers });
    moveOn(`${counted(left.length, "suggestion")} confirmed; U takes all of them back.`);
  } else tell("No suggestion is left on this page.");
}

function nextPage() {
  if ($("next").hidden) tell(endOf()[0]);
  else order("advance", { items: items(state.page) });
}

function toggleMore() {
  const isOpen = document.querySelector("header").classList.toggle("open");
  $("more").ariaExpanded = String(isOpen);
}

function turn(select) {
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  tell(`${select.id}: ${select.selectedOptions[0].text}`);
  draw();
}

function step(by) {
  if (state.page[current + by]) moveTo(current + by);
}

function across() {
  return new Set(chips().map((button) => button.offsetLeft)).size;
}

const KEYS = {
  " ": confirmOne,
  a: confirmAll,
  b: () => turn($("bands")),
  c: () => turn($("contrast")),
  n: nextPage,
  s: () => answer("unsure"),
  u: () => order("undo"),
  x: () => answer("skip"),
  z: () => ($("zoom").open ? $("zoom").close() : $("zoom").showModal()),
  "/": openFind,
  "?": () => $("help").showModal(),
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  ArrowUp: () => step(-across()),
  ArrowDown: () => step(across()),
  Home: () => moveTo(0),
  End: () => moveTo(state.page.length - 1),
};

function classOf(event) {
  const has = (key) => session.classes.find((one) => one.key === key);
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code); // keyboards with digits on shift
  return has(event.key.toLowerCase()) ?? (digit && has(digit[1]));
}

function onKey(event) {
  const { key, target } = event;
  const isUndo = (event.ctrlKey || event.metaKey) && key.toLowerCase() === "z";
  if (target.matches("input") || (target.matches("select") && OWN.includes(key))) return;
  if ($("help").open || (!isUndo && (event.ctrlKey || event.metaKey || event.altKey))) return;
  // Space presses a button that has the focus, unless it is a chip
  if (key === " " && target.matches("button") && !$("chips").contains(target)) return;
  if (event.repeat && !key.startsWith("Arrow")) return; // each answer is a press of its own
  const command = isUndo ? KEYS.u : (KEYS[key] ?? KEYS[key.toLowerCase()]);
  const named = command ? null : classOf(event);
  if (command || named) event.preventDefault();
  if (command !== confirmAll) armed = 0;
  if (command) command();
  else if (named) answer(named.name);
  else if (key.length === 1) tell(`No class has the key ${key}.`);
}

// ---------------------------------------------------------------- finding a class

function openFind() {
  $("zoom").close();
  $("wanted").value = "";
  drawFound();
  $("find").showModal();
}

function drawFound() {
  const text = $("wanted").value.trim().toLowerCase();
  const at = (one) => one.name.toLowerCase().indexOf(text);
  const found = session.classes.filter((one) => at(one) >= 0).sort((a, b) => at(a) - at(b));
  const rows = found.map((one, i) => {
    const row = make("li", { role: "option", id: `found-${i}` }, swatch(one.name), one.name);
    if (one.key) row.append(make("kbd", {}, one.key));
    row.dataset.name = one.name;
    row.addEventListener("click", () => choose(row));
    return row;
  });
  $("found").replaceChildren(...rows);
  $("not-found").textContent = rows.length ? "" : `No class matches '${$("wanted").value.trim()}'.`;
  select(0);
}

function select(index) {
  const rows = [...$("found").children];
  const chosen = rows.at(index % rows.length);
  for (const row of rows) row.ariaSelected = String(row === chosen);
  $("wanted").setAttribute("aria-activedescendant", chosen?.id ?? "");
  chosen?.scrollIntoView({ block: "nearest" });
}

function choose(row) {
  $("find").close();
  answer(row.dataset.name);
}

function onFindKey(event) {
  const rows = [...$("found").children];
  const index = rows.findIndex((row) => row.ariaSelected === "true");
  if (event.key === "ArrowDown") select(index + 1);
  else if (event.key === "ArrowUp") select(index - 1);
  else if (event.key === "Enter" && index >= 0) choose(rows[index]);
  else return;
  event.preventDefault();
}

// ---------------------------------------------------------------- start

function fill(select, pairs) {
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value, text })));
}

function listClasses() {
  const rows = session.classes.map(({ name, key }) => {
    const part = (className, ...inside) => make("span", { className }, ...inside);
    const above = [make("kbd", {}, key ?? "/"), swatch(name), part("name", breakable(name))];
    const below = [part("count"), part("bar", make("span")), part("share")];
    const button = make("button", { type: "button" }, ...above, ...below);
    button.dataset.name = name;
    button.addEventListener("click", () => answer(name));
    return make("li", {}, button);
  });
  $("classes").replaceChildren(...rows);
}

async function start() {
  history.replaceState(null, "", location.pathname); // no bookmark has the token
  session = await ask("session");
  $("title").textContent = breakable(session.name);
  document.title = `${session.name} · tailora label`;
  fill($("phase"), [["", "automatic"], ...session.phases.map((name) => [name, name])]);
  fill($("bands"), session.bands.map((name, i) => [i, name]));
  fill($("contrast"), session.contrasts);
  fill($("size"), session.sizes.map((count) => [count, count]));
  $("size").value = session.size;
  $("around-figure").hidden = $("scene-figure").hidden = !session.places;
  listClasses();
  const clicks = {
    next: KEYS.n, "confirm-all": confirmAll, undo: KEYS.u, unsure: KEYS.s, skip: KEYS.x,
    more: toggleMore,
    "find-button": openFind, enlarge: KEYS.z, zoomed: KEYS.z, "help-button": KEYS["?"],
    "help-close": () => $("help").close(),
  };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  for (const id of ["bands", "contrast"]) $(id).addEventListener("change", draw);
  for (const id of ["near", "scene", "around"]) $(id).addEventListener("error", tellLost);
  $("phase").addEventListener("change", () => order("phase", { phase: $("phase").value || null }));
  $("size").addEventListener("change", () => order("size", { size: Number($("size").value) }));
  $("wanted").addEventListener("input", drawFound);
  $("wanted").addEventListener("keydown", onFindKey);
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => moveTo(current));
  }
  document.addEventListener("keydown", onKey);
  addEventListener("beforeunload", (event) => waiting.length && !isKept && event.preventDefault());
  takeOver();
  show(await ask("state"), "state");
  if (waiting.length) {
    tell(`${counted(answersWaiting(), "answer")} that waited in this browser: sent now.`);
    send();
  }
  setTimeout(poll, POLL);
}

start().catch((error) => tell(`The page cannot start: ${error.message}`, true));
