"use strict";
// Draws the page from the JSON in it. Text is set by textContent only, so that no name can become HTML. The summary is
// drawn at once; a stream's rows, and its block of details, when the stream is opened.

// --- what the letters mean (see content.py); what is wrong first ---

const STATES = {
  x: { name: "failed", style: "failed", sign: "F" },
  m: { name: "missing", style: "missing", sign: "M" },
  t: { name: "truncated", style: "truncated", sign: "T" },
  s: { name: "set aside", style: "aside", sign: "S" },
  O: { name: "open, restated", style: "open", restated: true, sign: "" },
  o: { name: "open", style: "open", sign: "" },
  F: { name: "final, restated", style: "final", restated: true, sign: "" },
  f: { name: "final", style: "final", sign: "" },
  ".": { name: "nothing", style: "none", sign: "" },
};
const ORDER = "xmtsOoFf.";
const MEANING = {
  x: "the last try failed",
  m: "never delivered",
  t: "the provider lists no more",
  s: "records set aside, or values not read",
  o: "the provider may still change it",
  f: "read after it closed",
  F: "changed after its first delivery",
};
const KINDS = { failed: "x", missing: "m", truncated: "t", "set aside": "s", "not read": "s" };
const KIND_NAMES = { run: "last run", target: "target", overdue: "overdue" };
const EXITS = { 0: "delivered", 1: "failed", 3: "refused", 4: "work left", 5: "set aside", 6: "locked", 130: "interrupted" };
const PROBLEMS_AT_ONCE = 8;
const NEWS_AT_ONCE = 4;
const ROWS_AT_ONCE = 60;
const OPENED_BY_SEARCH = 5;
const OLD_S = 26 * 3600;

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const summary = read("summary");
const byId = (id) => document.getElementById(id);

// --- elements and texts ---

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function drawing(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const grouped = (number) => String(number).replace(/^(-?\d+)/, (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ","));
const counted = (number, what) => `${grouped(number)} ${what}${number === 1 ? "" : "s"}`;
const utc = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
const dayOf = (number) => new Date(Date.parse(summary.first) + number * 86400000).toISOString().slice(0, 10);
const weekday = (day) => ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][new Date(day).getUTCDay()];
const span = (first, last) => (first === last ? first : `${first} to ${last}`);

function distance(seconds) {
  const size = [[86400, "d"], [3600, "h"], [60, "min"]].find(([size]) => Math.abs(seconds) >= size);
  return size ? `${Math.floor(Math.abs(seconds) / size[0])}\u00a0${size[1]}` : "a moment";
}
const ago = (seconds) => `${distance(summary.made - seconds)} ago`;
const ahead = (seconds) => (seconds > summary.made ? `in ${distance(seconds - summary.made)}` : `${ago(seconds)}`);

function swatch(letter) {
  const state = STATES[letter];
  return element("span", { class: `swatch s-${state.style}${state.restated ? " s-restated" : ""}`, "aria-hidden": "true" });
}

function command(text) {
  const code = element("code", {}, ...text.split(" ").flatMap((word) => [element("span", {}, word), " "]));  // no break in a word
  const copy = element("button", { class: "plain", type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    } catch {
      getSelection().selectAllChildren(code);
    }
  });
  return element("div", { class: "command" }, code, copy);
}

function list(heads, rows) {
  const numeric = heads.map((_, index) => rows.every((row) => row[index] === null || typeof row[index] === "number"));
  const head = element("tr", {}, ...heads.map((name, index) => element("th", { scope: "col", class: numeric[index] ? "number" : "" }, name)));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((value, index) => {
      if (value instanceof Node) return element("td", { class: "words" }, value);
      return element("td", { class: numeric[index] ? "number" : "" }, value === null ? "" : typeof value === "number" ? grouped(value) : value);
    })),
  );
  return element("table", { class: "list" }, element("thead", {}, head), element("tbody", {}, ...body));
}

// --- the model: streams and their blocks ---

class Stream {
  constructor(target, source, data) {
    Object.assign(this, { target, source, data, measure: -1, open: false, shown: null });
    this.days = data.states.length;
  }
  get block() {
    return (this.parsed ??= read(`block-${this.data.block}`));
  }
  // Of all accounts (account null) or of one.
  states(account) {
    return account === null ? this.data.states : this.data.accounts[account].states;
  }
  name(account) {
    return account === null ? `all ${counted(this.data.accounts.length, "account")}` : this.data.accounts[account].name || "all records";
  }
  rows(account, day) {
    return account === null ? this.data.rows[day] : this.block.accounts[account].rows[day];
  }
  sum(account, measure, day) {
    return account === null ? this.data.sums[measure][day] : this.block.accounts[account].sums[measure][day];
  }
  amount(account, day) {
    return this.measure < 0 ? this.rows(account, day) : this.sum(account, this.measure, day);
  }
  details(account, day) {
    const columns = this.block.accounts[account], at = `${account}:${day}`;
    return {
      rows: columns.rows[day],
      promised: columns.promised[day],
      read: columns.read[day],
      closes: columns.closes[day] === null ? null : this.block.closings[columns.closes[day]],
      run: columns.run[day] === null ? null : this.block.runs[columns.run[day]],
      notes: this.block.notes[at] ?? {},
      changes: this.block.changes[at] ?? [],
    };
  }
  // The command that reads this account's day again.
  command(account, day) {
    const days = this.data.dated ? ` --since ${dayOf(day)} --until ${dayOf(day)}` : "";
    return `${this.block.again[account]}${days} --full`;
  }
  when(day) {
    return this.data.dated ? dayOf(day) : "latest reading";
  }
}

const streams = [];
const places = new WeakMap(); // row -> {stream, account}
const several = summary.targets.length > 1;
const wide = matchMedia("(pointer: coarse)").matches ? 24 : 0;

// --- the calendar ---

function pitch() {
  const style = getComputedStyle(document.documentElement);
  const label = parseFloat(style.getPropertyValue("--label")) * parseFloat(style.fontSize);
  const room = byId("sources").clientWidth - label - 18;
  return Math.max(wide, Math.min(24, Math.max(8, Math.floor(room / summary.days))));
}

function axis(days) {
  const months = element("tr", {}, element("th", { scope: "col" }, element("span", { class: "unseen" }, "stream and account")));
  const ticks = element("tr", { class: "ticks", "aria-hidden": "true" }, element("th"));
  const numbers = element("tr", { class: "numbers", "aria-hidden": "true" }, element("th"));
  for (let day = 0; day < days; ) {
    const text = dayOf(day), first = day;
    while (day < days && dayOf(day).slice(0, 7) === text.slice(0, 7)) {
      const number = Number(dayOf(day).slice(8));
      ticks.append(element("td", { class: number === 1 ? "first" : "" }));
      numbers.append(element("td", {}, number));
      day += 1;
    }
    const name = new Date(text).toLocaleDateString("en", { month: "short", year: "numeric", timeZone: "UTC" });
    months.append(element("th", { scope: "colgroup", colspan: day - first }, (day - first) * size < 62 ? "" : name));
  }
  return element("thead", {}, months, size >= 17 ? numbers : null, ticks);
}

function cells(row, stream, account) {
  const letters = stream.states(account);
  places.set(row, { stream, account });
  if (!stream.data.dated) {
    const whole = element("td", { colspan: summary.days, class: "whole" });
    const text = account === null
      ? `${counted(stream.data.rows[0] ?? 0, "row")}, read ${stream.data.read ? ago(stream.data.read) : "never"}`
      : `${counted(stream.data.accounts[account].rows, "row")}, read ${stream.data.accounts[account].read ? ago(stream.data.accounts[account].read) : "never"}`;
    whole.append(element("button", { type: "button", onclick: () => show(stream, account, 0) }, swatch(letters[0]), `${STATES[letters[0]].name}: ${text}`));
    row.append(whole);
    return;
  }
  for (const letter of letters) {
    const state = STATES[letter];
    const cell = document.createElement("td");
    cell.className = `cell s-${state.style}${state.restated ? " s-restated" : ""}`;
    cell.textContent = state.sign;
    cell.tabIndex = -1;
    row.append(cell);
  }
}

function streamRow(stream) {
  const badges = [..."xmts"].map((letter) => [letter, stream.data.counts[letter] ?? 0]).filter(([, count]) => count);
  const button = element("button", { type: "button", "aria-expanded": "false" },
    element("span", { class: "name" }, stream.data.name),
    element("span", { class: "badges" }, ...badges.map(([letter, count]) => element("span", { class: "badge", title: `${counted(count, "day")} ${STATES[letter].name}` }, swatch(letter), grouped(count), element("span", { class: "unseen" }, STATES[letter].name)))),
  );
  const row = element("tr", { class: "stream" }, element("th", { scope: "row", title: stream.data.name }, button));
  button.addEventListener("click", () => toggle(stream, !stream.open));
  cells(row, stream, null);
  stream.row = row;
  stream.button = button;
  return row;
}

function accountRow(stream, account) {
  const data = stream.data.accounts[account];
  const total = stream.measure < 0 ? data.rows : data.sums[stream.measure];
  const remarks = [data.zone, data.left ? "not in the configuration any more" : null, data.overdue ? "not read for too long" : null].filter(Boolean);
  const label = element("div", { title: [stream.name(account), ...remarks].join(" · ") },
    element("span", { class: `name${data.overdue ? " bad" : ""}` }, stream.name(account)),
    element("span", { class: "total" }, total === null ? "" : grouped(total)),
  );
  const row = element("tr", { class: `account${data.left ? " left" : ""}` }, element("th", { scope: "row" }, label));
  cells(row, stream, account);
  return row;
}

function chartRow(stream) {
  const names = ["rows", ...stream.data.measures];
  const amounts = stream.data.states.split("").map((_, day) => Number(stream.amount(null, day) ?? 0));
  const most = Math.max(...amounts, 0), least = Math.min(...amounts, 0), height = 44;
  const scale = most - least > 0 ? height / (most - least) : 0;
  const chart = drawing("svg", { width: size * amounts.length, height: height + 1, "aria-hidden": "true" });
  chart.append(drawing("line", { x1: 0, x2: size * amounts.length, y1: most * scale + 0.5, y2: most * scale + 0.5 }));
  amounts.forEach((amount, day) => {
    const tall = Math.abs(amount) * scale;
    if (tall > 0) chart.append(drawing("rect", { x: day * size, width: size - 1, y: amount > 0 ? (most - amount) * scale : most * scale, height: Math.max(tall, 1) }));
    chart.append(drawing("rect", { class: "hit", "data-day": day, x: day * size, width: size, y: 0, height }));
  });
  const chooser = element("select", { "aria-label": `What the chart of ${stream.data.name} shows`, onchange: (event) => { stream.measure = event.target.selectedIndex - 1; fill(stream); stream.body.querySelector("select").focus(); } },
    ...names.map((name, index) => element("option", { selected: index === stream.measure + 1 }, index ? `${name}, sum` : name)),
  );
  const label = element("th", { scope: "row" }, chooser, element("p", {}, `most in a day: ${grouped(bestText(stream, amounts, most))}`));
  const row = element("tr", { class: "chart" }, label, element("td", { colspan: summary.days }, chart));
  places.set(row, { stream, account: null });
  return row;
}

// The exact text of the largest amount.
function bestText(stream, amounts, most) {
  const day = amounts.indexOf(most);
  return day < 0 ? 0 : stream.amount(null, day) ?? 0;
}

// The rows of an open stream, in portions: the next ones are made when their place comes into view.
function fill(stream) {
  const accounts = stream.shown ?? stream.data.accounts.map((_, index) => index);
  const body = stream.body;
  body.replaceChildren();
  if (stream.data.dated) body.append(chartRow(stream));
  const more = (from) => {
    for (const account of accounts.slice(from, from + ROWS_AT_ONCE)) body.append(accountRow(stream, account));
    if (from + ROWS_AT_ONCE >= accounts.length) return;
    const rest = element("button", { type: "button", class: "link" }, `${grouped(accounts.length - from - ROWS_AT_ONCE)} more accounts`);
    const place = element("tr", { class: "more-rows" }, element("th", { scope: "row" }, rest));
    const go = () => { watch.disconnect(); place.remove(); more(from + ROWS_AT_ONCE); };
    const watch = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && go());
    rest.addEventListener("click", go);
    body.append(place);
    watch.observe(place);
  };
  more(0);
}

function toggle(stream, open) {
  stream.open = open;
  stream.button.setAttribute("aria-expanded", String(open));
  stream.body.hidden = !open;
  if (open) fill(stream);
  else stream.body.replaceChildren();
}

// --- a source ---

function sourceSection(target, source) {
  const good = source.good ? `last good run ${ago(source.good)}` : "no good run yet";
  const head = element("header", {},
    element("h2", {}, source.name, element("small", {}, `to ${target.name}`)),
    element("p", { class: source.good ? "" : "bad" }, good),
    element("p", {}, `${counted(source.requests, "request")} this month`),
  );
  const table = element("table", { role: "grid", class: size >= 14 ? "big" : "", "aria-label": `Days of ${source.name}, by stream and account` },
    element("colgroup", {}, element("col"), ...Array.from({ length: summary.days }, () => element("col"))),
    axis(summary.days),
  );
  for (const data of [...source.streams].sort((one, other) => other.dated - one.dated || wrong(other) - wrong(one))) {
    const stream = new Stream(target, source, data);
    streams.push(stream);
    stream.body = element("tbody", { class: "rows", hidden: true });
    stream.head = element("tbody", {}, streamRow(stream));
    table.append(stream.head, stream.body);
  }
  const first = table.querySelector("td.cell:not(.s-none)");
  if (first) first.tabIndex = 0;
  const calendar = element("div", { class: "calendar" }, table);
  table.addEventListener("click", (event) => at(event.target, (stream, account, day) => show(stream, account, day, event.target)));
  table.addEventListener("mouseover", (event) => at(event.target, (stream, account, day) => tell(stream, account, day, event.target)) || hush());
  table.addEventListener("mouseleave", hush);
  table.addEventListener("focusin", (event) => at(event.target, (stream, account, day) => event.target.matches(":focus-visible") && tell(stream, account, day, event.target)));
  table.addEventListener("focusout", hush);
  table.addEventListener("keydown", move);
  calendar.addEventListener("scroll", hush, { passive: true });
  const section = element("section", { class: "source", "aria-label": `${source.name} to ${target.name}` }, head, calendar, changes(source), openDays(source), history(source));
  section.calendar = calendar;
  return section;
}

const wrong = (data) => ["x", "m", "t", "s"].reduce((sum, letter) => sum + (data.counts[letter] ?? 0), 0) > 0 ? 1 : 0;

// A part of a source that is drawn when it is opened.
function part(title, draw) {
  const made = element("details", {}, element("summary", {}, ...title));
  made.addEventListener("toggle", () => made.open && made.children.length === 1 && made.append(element("div", { class: "scroll" }, draw())));
  return made;
}

function changes(source) {
  const { count, last } = source.restated;
  if (!count) return null;
  const title = `Restated: ${counted(count, "change")} to delivered days; the last ${ago(last[0].at)}`;
  const heads = ["changed (UTC)", "stream", "account", "day", "what", "before", "after", "difference"];
  return part([title], () => {
    const rows = last.flatMap((one) => amounts(one).map(([name, before, after, difference], index) =>
      index ? ["", "", "", "", name, before, after, difference] : [utc(one.at), one.stream, one.account, one.day ?? "", name, before, after, difference]));
    const table = list(heads, rows);
    table.querySelectorAll("td:nth-child(n + 6), th:nth-child(n + 6)").forEach((cell) => cell.classList.add("number"));
    const note = count > last.length ? element("p", { class: "quiet" }, `The last ${last.length} of ${grouped(count)}; \`penstock changes\` lists all.`) : null;
    return element("div", {}, table, note);
  });
}

// The rows of a restatement's table.
function amounts(change) {
  const [before, after] = change.rows;
  const sums = change.sums.map(([name, old, now, difference]) => [name, grouped(old), grouped(now), signed(difference)]);
  return before === after && sums.length ? sums : [["rows", grouped(before), grouped(after), signed(String(after - before))], ...sums];
}

function openDays(source) {
  if (!source.openings.length) return null;
  const partitions = source.openings.reduce((sum, one) => sum + one.partitions, 0);
  const next = source.openings.find((one) => one.closes !== null);
  const closes = next ? `; the next closes ${ahead(next.closes)}` : "";
  const rows = source.openings.map((one) => [
    one.closes === null ? "never" : utc(one.closes),
    one.closes === null ? "read by each run" : ahead(one.closes),
    one.stream,
    one.first ? span(one.first, one.last) : "not divided by days",
    one.accounts,
  ]);
  return part([`Open: ${counted(partitions, "partition")}${closes}`], () => list(["closes (UTC)", "", "stream", "days", "accounts"], rows));
}

function history(source) {
  if (!source.runs.length) return null;
  const last = source.runs[0];
  return part([`Runs: the last one started ${ago(last.at)}, `, ended(last)], () => runs(source));
}

function runs(source) {
  const heads = ["run", "started (UTC)", "seconds", "ended", "records", "requests", "failed", "set aside", "restated", "why"];
  return list(heads, source.runs.map((run) => [
    run.id, utc(run.at), run.seconds, ended(run), run.records, run.requests, run.failed, run.rejected, run.restated,
    element("div", {}, ...run.why.map((text) => element("p", {}, text))),
  ]));
}

function ended(run) {
  if (run.exit === null) return element("span", { class: "bad" }, "not finished");
  return element("span", { class: run.exit === 0 ? "good" : run.exit === 5 ? "" : "bad" }, `exit code ${run.exit}${EXITS[run.exit] ? `, ${EXITS[run.exit]}` : ""}`);
}

// --- tip: the text of a cell on hover and focus ---

// Call with the place of a cell or of a bar; whether the element is one.
function at(node, call) {
  const row = node.closest?.("tr"), place = row && places.get(row);
  if (!place) return false;
  const bar = node.dataset?.day;
  if (bar === undefined && !node.classList.contains("cell")) return false;
  const day = bar === undefined ? node.cellIndex - 1 : Number(bar);
  if (place.stream.states(place.account)[day] === ".") return false;
  call(place.stream, place.account, day);
  return true;
}

function described(stream, account, day) {
  const letter = stream.states(account)[day];
  const lines = [account === null ? worst(stream, day) : STATES[letter].name];
  const rows = stream.rows(account, day);
  if (rows !== null) {
    const sums = stream.data.measures.map((name, index) => [name, stream.sum(account, index, day)]).filter(([, sum]) => sum !== null);
    lines.push([counted(rows, "row"), ...sums.map(([name, sum]) => `${name} ${grouped(sum)}`)].join(" · "));
  }
  if (account !== null) {
    const { changes, notes } = stream.details(account, day);
    if (changes.length) lines.push(`restated ${changes.length === 1 ? "once" : `${changes.length} times`}`);
    if (notes.error) lines.push(notes.error.length > 160 ? `${notes.error.slice(0, 160)} ...` : notes.error);
  }
  return lines;
}

// "2 failed, 58 final"
function worst(stream, day) {
  const counts = {};
  for (const account of stream.data.accounts) counts[account.states[day]] = (counts[account.states[day]] ?? 0) + 1;
  return [...ORDER].filter((letter) => counts[letter] && letter !== ".").map((letter) => `${counts[letter]} ${STATES[letter].name}`).join(", ");
}

function tell(stream, account, day, node) {
  const tip = byId("tip");
  const when = `${weekday(dayOf(day))} ${dayOf(day)}`;
  const lines = described(stream, account, day);
  tip.replaceChildren(element("b", {}, `${when} · ${stream.name(account)}`), ...lines.map((line) => element("div", {}, line)));
  if (node.classList.contains("cell")) node.setAttribute("aria-label", [stream.data.name, stream.name(account), when, ...lines].join(", "));
  tip.hidden = false;
  const box = node.getBoundingClientRect(), width = tip.offsetWidth, height = tip.offsetHeight;
  const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), document.documentElement.clientWidth - width - 8);
  tip.style.left = `${left}px`;
  tip.style.top = `${box.top > height + 14 ? box.top - height - 8 : box.bottom + 8}px`;
}

function hush() {
  byId("tip").hidden = true;
}

// --- keyboard: arrows move between cells, Enter shows, Escape closes, / searches ---

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function move(event) {
  const cell = event.target;
  if (!cell.classList.contains("cell")) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    at(cell, (stream, account, day) => show(stream, account, day, cell));
    return;
  }
  const row = cell.parentElement;
  let next = null;
  if (event.key === "Home") next = row.querySelector("td.cell:not(.s-none)");
  else if (event.key === "End") next = row.lastElementChild;
  else if (event.key in STEPS) {
    const [down, right] = STEPS[event.key];
    next = down ? below(cell, down) : row.cells[cell.cellIndex + right];
  } else return;
  event.preventDefault();
  if (next?.classList.contains("cell")) settle(next);
}

// The cell of the same day in the next row that has days.
function below(cell, down) {
  const rows = [...cell.closest("table").querySelectorAll("tbody:not([hidden]) > tr:not([hidden])")];
  for (let index = rows.indexOf(cell.parentElement) + down; rows[index]; index += down) {
    const found = rows[index].cells[cell.cellIndex];
    if (found?.classList.contains("cell")) return found;
    if (rows[index].classList.contains("more-rows")) {
      rows[index].querySelector("button").click();
      return below(cell, down);
    }
  }
  return null;
}

function settle(cell) {
  const before = cell.closest("table").querySelector('td.cell[tabindex="0"]');
  if (before) before.tabIndex = -1;
  cell.tabIndex = 0;
  cell.focus({ preventScroll: true });
  reveal(cell);
  at(cell, (stream, account, day) => tell(stream, account, day, cell));
}

// Scroll so far that the cell is seen beside the names.
function reveal(cell) {
  const box = cell.closest(".calendar"), label = box.querySelector("th").offsetWidth;
  const left = cell.offsetLeft - label - 8, right = cell.offsetLeft + cell.offsetWidth + 8 - box.clientWidth;
  if (box.scrollLeft > left) box.scrollLeft = left;
  else if (box.scrollLeft < right) box.scrollLeft = right;
  cell.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !byId("panel").hidden) close();
  else if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
    event.preventDefault();
    byId("search").focus();
  }
});

// --- panel: everything about a day ---

let opener = null;

function show(stream, account, day, from = document.activeElement) {
  hush();
  if (from?.classList.contains("cell")) {
    const before = from.closest("table").querySelector('td.cell[tabindex="0"]');
    if (before) before.tabIndex = -1;
    from.tabIndex = 0;
  }
  const panel = byId("panel");
  if (from && !panel.contains(from)) opener = from;
  const title = account === null && stream.data.accounts.length > 1 ? stream.data.name : `${stream.data.name}, ${stream.name(account)}`;
  panel.replaceChildren(
    element("button", { class: "close", type: "button", "aria-label": "Close", onclick: close }, "×"),
    element("h2", { id: "panel-title" }, title),
    element("p", { class: "quiet" }, `${stream.data.dated ? `${weekday(dayOf(day))} ` : ""}${stream.when(day)} · ${stream.source.name} to ${stream.target.name}`),
    ...(account === null ? ofDay(stream, day) : ofAccount(stream, account, day)),
    stream.data.dated ? neighbours(stream, account, day) : null,
  );
  panel.hidden = false;
  document.body.classList.add("beside");
  if (from?.classList.contains("cell")) reveal(from);
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
}

function close() {
  byId("panel").hidden = true;
  document.body.classList.remove("beside");
  if (opener?.isConnected) opener.focus();
}

function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== 0);
  return element("dl", {}, ...shown.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, typeof value === "number" ? grouped(value) : value)]));
}

function stateBox(letter, text) {
  return element("div", { class: "state" }, swatch(letter), element("p", {}, element("b", {}, `${STATES[letter].name}. `), text));
}

function sentence(letter, { closes, notes, changes, read }) {
  const parts = [];
  if (letter === "m") return "This day lies between the first and the last one and was never delivered. A run whose window holds it reads it.";
  if (letter === "x") parts.push(read ? "The last try failed; rows and sums are those of the last good reading." : "It was never delivered; the last try failed.");
  if (letter === "t") parts.push("The provider lists no more than was delivered, so there may be more records.");
  if (notes.rejected) parts.push(`${counted(notes.rejected, "record")} could not be decoded and ${notes.rejected === 1 ? "was" : "were"} set aside.`);
  if (notes.unread) parts.push(`${counted(notes.unread, "value")} did not fit the column: null there, kept in _extra.`);
  if (letter !== "x") {
    if (closes === null) parts.push("It never closes: each run reads it again.");
    else if (read !== null && read >= closes) parts.push("It was read after it closed, and is not read again.");
    else parts.push(`It closes ${utc(closes)} UTC (${ahead(closes)}); until then each run reads it again.`);
  }
  if (changes.length) parts.push(`The provider changed it ${changes.length === 1 ? "once" : `${changes.length} times`} after it was delivered.`);
  return parts.join(" ");
}

function ofAccount(stream, account, day) {
  const letter = stream.states(account)[day];
  const found = letter === "m" || letter === "." ? { notes: {}, changes: [], closes: null, read: null, rows: null, promised: null } : stream.details(account, day);
  const { notes, changes } = found;
  const sums = stream.data.measures.map((name, index) => [name, letter === "m" || letter === "." ? null : stream.sum(account, index, day)]);
  const zone = stream.data.accounts[account].zone;
  const parts = [stateBox(letter, sentence(letter, found))];
  if (notes.error) {
    parts.push(element("h3", {}, `Error${notes.attempts > 1 ? `, ${notes.attempts} failures in a row` : ""}`), element("p", { class: "error" }, notes.error));
    parts.push(element("p", { class: "quiet" }, "The next run tries again. Act only if the same failure returns, or if the message states what to correct."));
  }
  if (found.read || found.run) {
    parts.push(element("h3", {}, "Last reading"));
    parts.push(facts([
      ["read (UTC)", found.read && `${utc(found.read)}, ${ago(found.read)}`],
      [found.closes !== null && found.closes <= summary.made ? "closed (UTC)" : "closes (UTC)", found.closes && utc(found.closes)],
      ["rows", String(grouped(found.rows))],
      ["stated by the provider", found.promised === null ? null : String(grouped(found.promised))],
      ["set aside", notes.rejected],
      ["values not read", notes.unread],
      ["repeated, written once", notes.repeated],
      ...sums.map(([name, sum]) => [name, sum && grouped(sum)]),
      ...Object.entries(notes.derived ?? {}).map(([name, rows]) => [`rows of ${name}`, rows]),
      ["time zone of its days", zone],
      ["run", found.run],
    ]));
  }
  for (const change of [...changes].reverse()) parts.push(...restatement(change));
  if (notes.rejected) {
    parts.push(element("h3", {}, "Records set aside"), command(stream.block.rejected));
  }
  parts.push(element("h3", {}, letter === "m" ? "Read it" : "Read it again"), command(stream.command(account, day)));
  return parts;
}

function restatement(change) {
  const table = list(["", "before", "after", "difference"], amounts(change));
  table.querySelectorAll("td:not(:first-child), th:not(:first-child)").forEach((cell) => cell.classList.add("number"));
  const same = change.rows[0] === change.rows[1] && !change.sums.length;
  return [
    element("h3", {}, `Restated ${utc(change.at)} UTC`),
    same ? element("p", {}, "Values changed; rows and sums stayed the same.") : table,
    element("p", { class: "quiet" }, `run ${change.run}`),
  ];
}

const signed = (text) => (/^-?0*(\.0*)?$/.test(text) ? "0" : text.startsWith("-") ? `−${grouped(text.slice(1))}` : `+${grouped(text)}`);

function ofDay(stream, day) {
  const sums = stream.data.measures.map((name, index) => [name, stream.sum(null, index, day)]);
  const found = stream.data.accounts.map((account, index) => [account.states[day], index]).filter(([letter]) => letter !== ".");
  found.sort(([one], [other]) => ORDER.indexOf(one) - ORDER.indexOf(other));
  const lines = found.map(([letter, account]) => element("tr", {},
    element("td", { class: "words" }, element("button", { class: "link", type: "button", onclick: () => show(stream, account, day) }, stream.name(account))),
    element("td", {}, swatch(letter), ` ${STATES[letter].name}`),
    element("td", { class: "number" }, letter === "m" ? "" : grouped(stream.rows(account, day))),
  ));
  return [
    stateBox(stream.data.states[day], worst(stream, day)),
    facts([["rows", String(grouped(stream.data.rows[day] ?? 0))], ...sums.map(([name, sum]) => [name, sum && grouped(sum)])]),
    element("h3", {}, "Accounts"),
    element("table", { class: "list" }, element("tbody", {}, ...lines)),
  ];
}

function neighbours(stream, account, day) {
  const letters = stream.states(account);
  const step = (to, text) => element("button", { class: "plain", type: "button", disabled: to < 0 || to >= letters.length || letters[to] === ".", onclick: () => show(stream, account, to) }, text);
  return element("div", { class: "days" }, step(day - 1, "← Day before"), step(day + 1, "Day after →"),
    account === null || stream.data.accounts.length < 2 ? null : element("button", { class: "plain", type: "button", onclick: () => show(stream, null, day) }, "All accounts"));
}

// --- problems ---

function problem(one) {
  const letter = KINDS[one.kind];
  const amount = one.kind === "run" ? `exit code ${one.count}` : one.kind === "failed" || one.kind === "missing" || one.kind === "truncated" ? counted(one.count, "day") : one.kind === "not read" ? counted(one.count, "value") : one.kind === "set aside" ? counted(one.count, "record") : "";
  const names = one.streams ?? [];
  const where = names.length === 1 ? `${one.source}.${names[0]}` : one.source ?? one.target;
  const place = [where, several && one.source ? `to ${one.target}` : null].filter(Boolean).join(" ");
  const counts = [amount, names.length > 1 ? counted(names.length, "stream") : "", one.accounts.length ? counted(one.accounts.length, "account") : ""];
  const more = element("div", { class: "more" });
  const accounts = one.accounts.length > 12 ? [...one.accounts.slice(0, 12), `${one.accounts.length - 12} more`] : one.accounts;
  if (names.length > 1) more.append(element("p", {}, `Streams: ${names.join(", ")}`));
  if (accounts.length) more.append(element("p", {}, `Accounts: ${accounts.join(", ")}`));
  if (one.first) more.append(element("p", {}, `Days: ${span(one.first, one.last)}${one.read ? `; last good reading ${ago(one.read)}` : ""}`));
  more.append(element("p", {}, one.advice));
  if (one.command) more.append(command(one.command));
  if (one.at) {
    const [name, account, day] = one.at;
    const stream = () => streams.find((known) => known.target.name === one.target && known.source.name === one.source && known.data.name === name);
    more.append(element("p", {}, element("button", { class: "link", type: "button", onclick: (event) => show(stream(), account, day, event.target) }, "Show the first of these days")));
  }
  return element("details", { class: "problem", "data-text": [one.kind, place, one.reason, ...names, ...one.accounts].join(" ").toLowerCase() },
    element("summary", {},
      element("span", { class: "kind" }, letter ? swatch(letter) : element("span", { class: "bad", "aria-hidden": "true" }, "!"), KIND_NAMES[one.kind] ?? one.kind),
      element("span", { class: "where" }, place, element("br"), element("span", { class: "quiet" }, counts.filter(Boolean).join(", "))),
      element("span", { class: "why" }, one.reason || "no message"),
    ), more);
}

function problems() {
  const found = summary.problems, verdict = byId("verdict");
  const delivered = streams.some((stream) => stream.data.rows.some((rows) => rows !== null));
  verdict.textContent = found.length ? `${counted(found.length, "problem")} ${found.length === 1 ? "needs" : "need"} attention` : delivered ? "Nothing needs attention" : "Nothing was delivered yet";
  verdict.className = found.length ? "wrong" : "";
  verdict.dataset.sign = found.length ? "!" : "✓";
  fold(byId("problems"), found.map(problem), PROBLEMS_AT_ONCE);
}

// Add the pieces to a section; all after the first ones are shown on demand, and by a search.
function fold(section, pieces, count) {
  section.classList.add("folding");
  pieces.slice(count).forEach((one) => one.classList.add("folded"));
  section.append(...pieces);
  if (pieces.length <= count) return;
  const all = element("button", { type: "button", class: "link all", onclick: () => { section.classList.add("unfolded"); all.remove(); } }, `Show all ${pieces.length}`);
  section.append(all);
}

// --- news: what providers changed lately, and is no problem ---

function news() {
  fold(byId("news"), summary.news.map(piece), NEWS_AT_ONCE);
  byId("news").hidden = !summary.news.length;
}

function piece(one) {
  const place = `${one.source}.${one.stream}${several ? ` to ${one.target}` : ""}`;
  const more = element("div", { class: "more" });
  let sign, kind, where, text;
  if (one.kind === "restated") {
    const rows = amounts(one);
    sign = swatch("F");
    kind = "restated";
    where = [one.month, counted(one.days, "day"), counted(one.accounts, "account")].filter(Boolean).join(", ");
    text = `In the last 24 hours: ${rows.map(([name, , , difference]) => `${name} ${difference}`).join(" · ")}`;
    const table = list(["", "before", "after", "difference"], rows);
    table.querySelectorAll("td:not(:first-child), th:not(:first-child)").forEach((cell) => cell.classList.add("number"));
    more.append(element("div", {}, table));
  } else {
    sign = element("span", { class: "bad", "aria-hidden": "true" }, "+");
    kind = "new members";
    where = "in the last run";
    text = one.members.join(", ");
    more.append(element("p", {}, "No column holds these members of the provider's records; they are kept in _extra. An update of the connector may give them columns."));
  }
  more.append(command(one.command));
  return element("details", { class: "problem", "data-text": [kind, place, where, text].join(" ").toLowerCase() },
    element("summary", {},
      element("span", { class: "kind" }, sign, kind),
      element("span", { class: "where" }, place, element("br"), element("span", { class: "quiet" }, where)),
      element("span", { class: "why" }, text),
    ), more);
}

function legend() {
  const entry = (letter, name, text) => element("li", { title: text }, swatch(letter), `${name}: ${text}`);
  byId("legend").append(
    ...["x", "m", "t", "s", "o", "f"].map((letter) => entry(letter, STATES[letter].name, MEANING[letter])),
    entry("F", "corner", "restated, changed after its first delivery"),
  );
}

// --- search ---

// Each word must be in the names, or in the states, of a stream or an account; a day is marked in the calendars.
function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const days = words.filter((word) => /^\d{4}-\d\d(-\d\d)?$/.test(word));
  const others = words.filter((word) => !days.includes(word));
  let accounts = 0, shown = 0;
  for (const stream of streams) {
    const own = `${stream.target.name} ${stream.source.name}.${stream.data.name}`.toLowerCase();
    const rest = others.filter((word) => !own.includes(word));
    const hits = stream.data.accounts.map((account, index) => (rest.every((word) => haystack(account).includes(word)) ? index : -1)).filter((index) => index >= 0);
    stream.head.hidden = hits.length === 0;
    stream.shown = rest.length ? hits : null;
    if (hits.length) shown += 1;
    accounts += hits.length;
    const open = hits.length > 0 && (rest.length ? shown <= OPENED_BY_SEARCH : stream.open);
    if (open || stream.open) toggle(stream, open);
    if (!hits.length) stream.body.hidden = true;
  }
  document.querySelectorAll("section.source").forEach((section) => (section.hidden = !section.querySelector("tbody:not([hidden]) tr.stream")));
  document.querySelectorAll(".problem").forEach((one) => (one.hidden = !others.every((word) => one.dataset.text.includes(word))));
  document.querySelectorAll(".folding").forEach((section) => section.classList.toggle("searched", others.length > 0));
  byId("news").hidden = !byId("news").querySelector(".problem:not([hidden])");
  mark(days);
  byId("found").textContent = !words.length ? "" : shown ? `${counted(accounts, "account")} in ${counted(shown, "stream")}` : `Nothing has "${words.join(" ")}" in its name or states. Words may be parts of names, states such as failed, or days such as ${dayOf(0)}.`;
}

function haystack(account) {
  return (account.text ??= [account.name, ...new Set(account.states)].map((part, index) => (index ? STATES[part].name : part)).concat(account.left ? "left" : [], account.overdue ? "overdue" : []).join(" ").toLowerCase());
}

function mark(days) {
  document.querySelectorAll("tr.ticks").forEach((ticks) => {
    let first = null;
    [...ticks.cells].slice(1).forEach((cell, day) => {
      const sought = days.some((text) => dayOf(day).startsWith(text));
      cell.classList.toggle("sought", sought);
      if (sought) first ??= cell;
    });
    if (first) ticks.closest(".calendar").scrollLeft = first.offsetLeft - ticks.cells[0].offsetWidth - 40;
  });
}

// --- start ---

const size = pitch();
document.documentElement.style.setProperty("--pitch", `${size}px`);

function start() {
  const names = summary.targets.map((target) => target.name).join(", ");
  byId("made").textContent = `${names || "no target"} · from the ledger${several ? "s" : ""}, ${utc(summary.made)} UTC · times are UTC`;
  const age = Date.now() / 1000 - summary.made;
  const notices = [...(age > OLD_S ? [`This page was made ${distance(age)} ago; what was delivered since is not on it.`] : []), ...summary.notices];
  byId("notices").append(...notices.map((text) => element("p", { class: "notice" }, text)));
  legend();
  for (const target of summary.targets) byId("sources").append(...target.sources.map((source) => sourceSection(target, source)));
  problems();
  news();
  const accounts = streams.reduce((sum, stream) => sum + stream.data.accounts.length, 0);
  for (const stream of accounts <= 12 ? streams : streams.filter((stream) => wrong(stream.data)).slice(0, 1)) toggle(stream, true);
  document.querySelectorAll(".calendar").forEach((calendar) => (calendar.scrollLeft = calendar.scrollWidth));
  byId("search").addEventListener("input", search);
}

start();
