"use strict";
// The page is drawn from the JSON in it, by model.js, calendar.js, panel.js and page.js, which are one script in this
// order. Text is set by textContent only, so that no name can become HTML. The summary is drawn at once; a stream's
// rows, and its block of details, when the stream is opened.

// --- what the letters mean (see stream_content.py); what is wrong first ---

const STATES = {
  x: { name: "failed", style: "failed", sign: "F" },
  m: { name: "missing", style: "missing", sign: "M" },
  t: { name: "truncated", style: "truncated", sign: "T" },
  s: { name: "rejected", style: "rejected", sign: "R" },
  O: { name: "open, restated", style: "open", restated: true, sign: "" },
  o: { name: "open", style: "open", sign: "" },
  F: { name: "final, restated", style: "final", restated: true, sign: "" },
  f: { name: "final", style: "final", sign: "" },
  ".": { name: "no reading", style: "none", sign: "" },
};
const ORDER = "xmtsOoFf.";
const MEANING = {
  x: "the last try failed",
  m: "never delivered",
  t: "the provider lists no more",
  s: "rejected records, or values not read",
  o: "the provider may still change it",
  f: "read after it closed",
  F: "changed after its first delivery",
};
const KINDS = { failed: "x", missing: "m", truncated: "t", rejected: "s", "not read": "s" };
const COUNTED = { failed: "day", missing: "day", truncated: "day", rejected: "record", "not read": "value" };
const KIND_NAMES = { run: "last run", target: "target", overdue: "overdue" };
const EXITS = {
  0: "delivered",
  1: "failed",
  3: "refused",
  4: "work left",
  5: "rejected",
  6: "locked",
  130: "interrupted",
};
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
  const size = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
  ].find(([size]) => Math.abs(seconds) >= size);
  return size ? `${Math.floor(Math.abs(seconds) / size[0])}\u00a0${size[1]}` : "a moment";
}
const ago = (seconds) => `${distance(summary.made - seconds)} ago`;
const ahead = (seconds) => (seconds > summary.made ? `in ${distance(seconds - summary.made)}` : `${ago(seconds)}`);

function swatch(letter) {
  const state = STATES[letter];
  const style = `swatch s-${state.style}${state.restated ? " s-restated" : ""}`;
  return element("span", { class: style, "aria-hidden": "true" }, state.sign);
}

function command(text) {
  const words = text.split(" ").flatMap((word) => [element("span", {}, word), " "]); // no line break within a word
  const code = element("code", {}, ...words);
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

// A table; its columns of numbers, and all from the column numbersFrom on (numbers as text), are set to the right.
function list(heads, rows, numbersFrom = heads.length) {
  const isNumber = (value) => value === null || typeof value === "number";
  const numeric = heads.map((_, index) => index >= numbersFrom || rows.every((row) => isNumber(row[index])));
  const head = element(
    "tr",
    {},
    ...heads.map((name, index) => element("th", { scope: "col", class: numeric[index] ? "number" : "" }, name)),
  );
  const body = rows.map((row) =>
    element(
      "tr",
      {},
      ...row.map((value, index) => {
        if (value instanceof Node) return element("td", { class: "words" }, value);
        return element(
          "td",
          { class: numeric[index] ? "number" : "" },
          value === null ? "" : typeof value === "number" ? grouped(value) : value,
        );
      }),
    ),
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
    return account === null
      ? `all ${counted(this.data.accounts.length, "account")}`
      : this.data.accounts[account].name || "all records";
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
    const columns = this.block.accounts[account],
      at = `${account}:${day}`;
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
    return this.data.dated ? `${weekday(dayOf(day))} ${dayOf(day)}` : "latest reading";
  }
}

const streams = [];
const places = new WeakMap(); // row -> {stream, account}
const several = summary.targets.length > 1;
const wide = matchMedia("(pointer: coarse)").matches ? 24 : 0;
