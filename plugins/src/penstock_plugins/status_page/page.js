// Problems, news, search, and the start.

// --- problems ---

function problem(one) {
  const letter = KINDS[one.kind];
  // A day of several accounts is counted for each of them.
  const days = !one.undated && one.accounts.length <= 1;
  const unit = COUNTED[one.kind] === "day" && !days ? "partition" : COUNTED[one.kind];
  const amount = one.kind === "run" ? `exit code ${one.count}` : unit ? counted(one.count, unit) : "";
  const names = one.streams ?? [];
  const where = names.length === 1 ? `${one.source}.${names[0]}` : (one.source ?? one.target);
  const place = [where, several && one.source ? `to ${one.target}` : null].filter(Boolean).join(" ");
  const counts = [
    amount,
    names.length > 1 ? counted(names.length, "stream") : "",
    one.accounts.length ? counted(one.accounts.length, "account") : "",
  ];
  const more = element("div", { class: "more" });
  const accounts =
    one.accounts.length > 12 ? [...one.accounts.slice(0, 12), `${one.accounts.length - 12} more`] : one.accounts;
  if (names.length > 1) more.append(element("p", {}, `Streams: ${names.join(", ")}`));
  if (accounts.length) more.append(element("p", {}, `Accounts: ${accounts.join(", ")}`));
  if (one.first)
    more.append(
      element("p", {}, `Days: ${span(one.first, one.last)}${one.read ? `; last good reading ${ago(one.read)}` : ""}`),
    );
  more.append(element("p", {}, one.advice));
  if (one.command) more.append(command(one.command));
  if (one.at) {
    const [name, account, day] = one.at;
    const stream = () =>
      streams.find(
        (known) => known.target.name === one.target && known.source.name === one.source && known.data.name === name,
      );
    const lead = (event) => show(stream(), account, day, event.target);
    more.append(
      element(
        "p",
        {},
        element("button", { class: "link", type: "button", onclick: lead }, "Show the first of these days"),
      ),
    );
  }
  return element(
    "details",
    { class: "problem", "data-text": [one.kind, place, one.reason, ...names, ...one.accounts].join(" ").toLowerCase() },
    element(
      "summary",
      {},
      element(
        "span",
        { class: "kind" },
        letter ? swatch(letter) : element("span", { class: "bad", "aria-hidden": "true" }, "!"),
        KIND_NAMES[one.kind] ?? one.kind,
      ),
      element(
        "span",
        { class: "where" },
        place,
        element("br"),
        element("span", { class: "quiet" }, counts.filter(Boolean).join(", ")),
      ),
      element("span", { class: "why" }, one.reason || "no message"),
    ),
    more,
  );
}

function problems() {
  const found = summary.problems,
    verdict = byId("verdict");
  const delivered = streams.some((stream) => stream.data.rows.some((rows) => rows !== null));
  const well = delivered ? "Nothing needs attention" : "Nothing was delivered yet";
  const wrongs = `${counted(found.length, "problem")} ${found.length === 1 ? "needs" : "need"} attention`;
  verdict.textContent = found.length ? wrongs : well;
  verdict.className = found.length ? "wrong" : "";
  verdict.dataset.sign = found.length ? "!" : delivered ? "✓" : "–";
  fold(byId("problems"), found.map(problem), PROBLEMS_AT_ONCE);
}

// Add the pieces to a section; all after the first ones are shown on demand, and by a search.
function fold(section, pieces, count) {
  section.classList.add("folding");
  pieces.slice(count).forEach((one) => one.classList.add("folded"));
  section.append(...pieces);
  if (pieces.length <= count) return;
  const all = element("button", { type: "button", class: "link all" }, `Show all ${pieces.length}`);
  all.addEventListener("click", () => {
    section.classList.add("unfolded");
    all.remove();
  });
  section.append(all);
}

// --- news: what providers restated or added lately, and is no problem ---

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
    more.append(element("div", {}, list(["", "before", "after", "difference"], rows, 1)));
  } else {
    sign = element("span", { class: "bad", "aria-hidden": "true" }, "+");
    kind = "new members";
    where = "in the last run";
    text = one.members.join(", ");
    more.append(
      element(
        "p",
        {},
        "No column holds these members of the provider's records; they are kept in _extra. " +
          "An update of the connector may give them columns.",
      ),
    );
  }
  more.append(command(one.command));
  return element(
    "details",
    { class: "problem", "data-text": [kind, place, where, text].join(" ").toLowerCase() },
    element(
      "summary",
      {},
      element("span", { class: "kind" }, sign, kind),
      element("span", { class: "where" }, place, element("br"), element("span", { class: "quiet" }, where)),
      element("span", { class: "why" }, text),
    ),
    more,
  );
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
  let accounts = 0,
    shown = 0;
  for (const stream of streams) {
    const own = `${stream.target.name} ${stream.source.name}.${stream.data.name}`.toLowerCase();
    const rest = others.filter((word) => !own.includes(word));
    const isHit = (account) => rest.every((word) => haystack(account).includes(word));
    const hits = [...stream.data.accounts.keys()].filter((index) => isHit(stream.data.accounts[index]));
    stream.head.hidden = hits.length === 0;
    stream.shown = rest.length ? hits : null;
    if (hits.length) shown += 1;
    accounts += hits.length;
    const open = hits.length > 0 && (rest.length ? shown <= OPENED_BY_SEARCH : stream.open);
    if (open || stream.open) toggle(stream, open);
    if (!hits.length) stream.body.hidden = true;
  }
  document
    .querySelectorAll("section.source")
    .forEach((section) => (section.hidden = !section.querySelector("tbody:not([hidden]) tr.stream")));
  document
    .querySelectorAll(".problem")
    .forEach((one) => (one.hidden = !others.every((word) => one.dataset.text.includes(word))));
  document.querySelectorAll(".folding").forEach((section) => section.classList.toggle("searched", others.length > 0));
  byId("news").hidden = !byId("news").querySelector(".problem:not([hidden])");
  mark(days);
  const nothing =
    `Nothing has "${words.join(" ")}" in its name or states. ` +
    `Words may be parts of names, states such as failed, or days such as ${dayOf(0)}.`;
  const hits = shown ? `${counted(accounts, "account")} in ${counted(shown, "stream")}` : nothing;
  byId("found").textContent = words.length ? hits : "";
}

function haystack(account) {
  const states = [...new Set(account.states)].map((letter) => STATES[letter].name);
  const marks = [account.left ? "left" : "", account.overdue ? "overdue" : ""];
  return (account.text ??= [account.name, ...states, ...marks].join(" ").toLowerCase());
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

const PAPER_PX = 670; // what A4 and Letter, upright, have for a calendar
const size = pitch();
document.documentElement.style.setProperty("--pitch", `${size}px`);
document.documentElement.classList.toggle("big", size >= 14); // cells, and all that explains them, show letters

function start() {
  const names = summary.targets.map((target) => target.name).join(", ");
  byId("made").textContent =
    `${names || "no target"} · from the ledger${several ? "s" : ""}, ${utc(summary.made)} UTC · times are UTC`;
  const age = Date.now() / 1000 - summary.made;
  const old = `This page was made ${distance(age)} ago; what was delivered since is not on it.`;
  const notices = [...(age > OLD_S ? [old] : []), ...summary.notices];
  byId("notices").append(...notices.map((text) => element("p", { class: "notice" }, text)));
  legend();
  for (const target of summary.targets)
    byId("sources").append(...target.sources.map((source) => sourceSection(target, source)));
  problems();
  news();
  const accounts = streams.reduce((sum, stream) => sum + stream.data.accounts.length, 0);
  for (const stream of accounts <= 12 ? streams : streams.filter((stream) => wrong(stream.data)).slice(0, 1))
    toggle(stream, true);
  document.querySelectorAll(".calendar").forEach((calendar) => {
    calendar.style.setProperty("--paper", Math.min(1, PAPER_PX / calendar.firstElementChild.offsetWidth));
    calendar.scrollLeft = calendar.scrollWidth;
  });
  byId("search").addEventListener("input", search);
}

start();
