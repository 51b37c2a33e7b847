// The calendars: a table for each source, its streams, their accounts, and a cell for each day; tip and keyboard.

// --- the calendar ---

function pitch() {
  const style = getComputedStyle(document.documentElement);
  const label = parseFloat(style.getPropertyValue("--label")) * parseFloat(style.fontSize);
  const room = byId("sources").clientWidth - label - 18;
  return Math.max(wide, Math.min(24, Math.max(8, Math.floor(room / summary.days))));
}

function axis(days) {
  const months = element(
    "tr",
    {},
    element("th", { scope: "col" }, element("span", { class: "unseen" }, "stream and account")),
  );
  const ticks = element("tr", { class: "ticks", "aria-hidden": "true" }, element("th"));
  const numbers = element("tr", { class: "numbers", "aria-hidden": "true" }, element("th"));
  for (let day = 0; day < days;) {
    const text = dayOf(day),
      first = day;
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
    const own =
      account === null ? { rows: stream.data.rows[0] ?? 0, read: stream.data.read } : stream.data.accounts[account];
    const text = `${STATES[letters[0]].name}: ${counted(own.rows, "row")}, read ${own.read ? ago(own.read) : "never"}`;
    whole.append(
      element("button", { type: "button", onclick: () => show(stream, account, 0) }, swatch(letters[0]), text),
    );
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

// A name that a narrow screen breaks after an underscore.
function breakable(name) {
  return name.split(/(?<=_)/).flatMap((part, number) => (number ? [element("wbr"), part] : [part]));
}

function streamRow(stream) {
  const badges = [..."xmts"].map((letter) => [letter, stream.data.counts[letter] ?? 0]).filter(([, count]) => count);
  const button = element(
    "button",
    { type: "button", "aria-expanded": "false" },
    element("span", { class: "name" }, ...breakable(stream.data.name)),
    element("span", { class: "badges" }, ...badges.map(([letter, count]) => badge(letter, count))),
  );
  const row = element("tr", { class: "stream" }, element("th", { scope: "row", title: stream.data.name }, button));
  button.addEventListener("click", () => toggle(stream, !stream.open));
  cells(row, stream, null);
  stream.row = row;
  stream.button = button;
  return row;
}

function badge(letter, count) {
  const name = STATES[letter].name;
  return element(
    "span",
    { class: "badge", title: `${counted(count, "day")} ${name}` },
    swatch(letter),
    grouped(count),
    element("span", { class: "unseen" }, name),
  );
}

function accountRow(stream, account) {
  const data = stream.data.accounts[account];
  const total = stream.measure < 0 ? data.rows : data.sums[stream.measure];
  const remarks = [
    data.zone,
    data.left,
    data.overdue ? "not read for too long" : null,
  ].filter(Boolean);
  const label = element(
    "div",
    { title: [stream.name(account), ...remarks].join(" · ") },
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
  const most = Math.max(...amounts, 0),
    least = Math.min(...amounts, 0),
    height = 44;
  const scale = most - least > 0 ? height / (most - least) : 0;
  const chart = drawing("svg", { width: size * amounts.length, height: height + 1, "aria-hidden": "true" });
  chart.append(drawing("line", { x1: 0, x2: size * amounts.length, y1: most * scale + 0.5, y2: most * scale + 0.5 }));
  amounts.forEach((amount, day) => {
    const tall = Math.abs(amount) * scale;
    const top = (most - Math.max(amount, 0)) * scale;
    if (tall > 0) chart.append(drawing("rect", { x: day * size, width: size - 1, y: top, height: Math.max(tall, 1) }));
    chart.append(drawing("rect", { class: "hit", "data-day": day, x: day * size, width: size, y: 0, height }));
  });
  const choose = (event) => {
    stream.measure = event.target.selectedIndex - 1;
    fill(stream);
    stream.body.querySelector("select").focus();
  };
  const chooser = element(
    "select",
    { "aria-label": `What the chart of ${stream.data.name} shows`, onchange: choose },
    ...names.map((name, index) =>
      element("option", { selected: index === stream.measure + 1 }, index ? `${name}, sum` : name),
    ),
  );
  const label = element(
    "th",
    { scope: "row" },
    chooser,
    element("p", {}, `most in a day: ${grouped(bestText(stream, amounts, most))}`),
  );
  const row = element("tr", { class: "chart" }, label, element("td", { colspan: summary.days }, chart));
  places.set(row, { stream, account: null });
  return row;
}

// The exact text of the largest amount.
function bestText(stream, amounts, most) {
  const day = amounts.indexOf(most);
  return day < 0 ? 0 : (stream.amount(null, day) ?? 0);
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
    const rest = element(
      "button",
      { type: "button", class: "link" },
      `${grouped(accounts.length - from - ROWS_AT_ONCE)} more accounts`,
    );
    const place = element("tr", { class: "more-rows" }, element("th", { scope: "row" }, rest));
    const go = () => {
      watch.disconnect();
      place.remove();
      more(from + ROWS_AT_ONCE);
    };
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
  const head = element(
    "header",
    {},
    element("h2", {}, source.name, element("small", {}, `to ${target.name}`)),
    element("p", { class: source.good ? "" : "bad" }, good),
    element("p", {}, `${counted(source.requests, "request")} this month`),
  );
  const table = element(
    "table",
    { role: "grid", "aria-label": `Days of ${source.name}, by stream and account` },
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
  const telling = (event) => at(event.target, (...place) => tell(...place, event.target));
  table.addEventListener("click", (event) => at(event.target, (...place) => showRead(...place, event.target)));
  table.addEventListener("mouseover", (event) => telling(event) || hush());
  table.addEventListener("mouseleave", hush);
  table.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && telling(event));
  table.addEventListener("focusout", hush);
  table.addEventListener("keydown", move);
  calendar.addEventListener("scroll", hush, { passive: true });
  const section = element(
    "section",
    { class: "source", "aria-label": `${source.name} to ${target.name}` },
    head,
    calendar,
    changes(source),
    openDays(source),
    history(source),
  );
  section.calendar = calendar;
  return section;
}

const wrong = (data) => (["x", "m", "t", "s"].reduce((sum, letter) => sum + (data.counts[letter] ?? 0), 0) > 0 ? 1 : 0);

// A part of a source that is drawn when it is opened.
function part(title, draw) {
  const made = element("details", {}, element("summary", {}, ...title));
  made.addEventListener(
    "toggle",
    () => made.open && made.children.length === 1 && made.append(element("div", { class: "scroll" }, draw())),
  );
  return made;
}

function changes(source) {
  const { count, last } = source.restated;
  if (!count) return null;
  const title = `Restated: ${counted(count, "change")} to delivered days; the last ${ago(last[0].at)}`;
  const heads = ["changed (UTC)", "stream", "account", "day", "what", "before", "after", "difference"];
  return part([title], () => {
    const rows = last.flatMap((one) =>
      amounts(one).map(([name, before, after, difference], index) =>
        index
          ? ["", "", "", "", name, before, after, difference]
          : [utc(one.at), one.stream, one.account, one.day ?? "", name, before, after, difference],
      ),
    );
    const note =
      count > last.length
        ? element(
            "p",
            { class: "quiet" },
            `The last ${last.length} of ${grouped(count)}; \`penstock changes\` lists all.`,
          )
        : null;
    return element("div", {}, list(heads, rows, 5), note);
  });
}

// The rows of a restatement's table.
function amounts(change) {
  const [before, after] = change.rows;
  const sums = change.sums.map(([name, old, now, difference]) => [
    name,
    grouped(old),
    grouped(now),
    signed(difference),
  ]);
  return before === after && sums.length
    ? sums
    : [["rows", grouped(before), grouped(after), signed(String(after - before))], ...sums];
}

function openDays(source) {
  if (!source.openings.length) return null;
  const partitions = source.openings.reduce((sum, one) => sum + one.partitions, 0);
  const next = source.openings.find((one) => one.closes !== null);
  const verb = next && next.closes > summary.made ? "the next closes" : "the first closed";
  const closes = next ? `; ${verb} ${ahead(next.closes)}` : "";
  const rows = source.openings.map((one) => [
    one.closes === null ? "never" : utc(one.closes),
    one.closes === null ? "read by each run" : ahead(one.closes),
    one.stream,
    one.first ? span(one.first, one.last) : "not divided by days",
    one.accounts,
  ]);
  return part([`Open: ${counted(partitions, "partition")}${closes}`], () =>
    list(["closes (UTC)", "", "stream", "days", "accounts"], rows),
  );
}

function history(source) {
  if (!source.runs.length) return null;
  const last = source.runs[0];
  return part([`Runs: the last one started ${ago(last.at)}, `, ended(last)], () => runs(source));
}

function runs(source) {
  const heads = [
    "run",
    "started (UTC)",
    "seconds",
    "ended",
    "records",
    "requests",
    "failed",
    "rejected",
    "restated",
    "why",
  ];
  return list(
    heads,
    source.runs.map((run) => [
      run.id,
      utc(run.at),
      run.seconds,
      ended(run),
      run.records,
      run.requests,
      run.failed,
      run.rejected,
      run.restated,
      element("div", {}, ...run.why.map((text) => element("p", {}, text))),
    ]),
  );
}

function ended(run) {
  if (run.exit === null) return element("span", { class: "bad" }, "not finished");
  const style = { 0: "good", 5: "" }[run.exit] ?? "bad";
  return element("span", { class: style }, [`exit code ${run.exit}`, EXITS[run.exit]].filter(Boolean).join(", "));
}

// --- tip: the text of a cell on hover and focus ---

// Call with the place of a cell or of a bar; whether the element is one.
function at(node, call) {
  const row = node.closest?.("tr"),
    place = row && places.get(row);
  if (!place) return false;
  const bar = node.dataset?.day;
  if (bar === undefined && !node.classList.contains("cell")) return false;
  const day = bar === undefined ? node.cellIndex - 1 : Number(bar);
  call(place.stream, place.account, day);
  return true;
}

// The panel of a day that was read, or should have been.
function showRead(stream, account, day, node) {
  if (stream.states(account)[day] !== ".") show(stream, account, day, node);
}

function described(stream, account, day) {
  const letter = stream.states(account)[day];
  const lines = [account === null && letter !== "." ? worst(stream, day) : STATES[letter].name];
  const rows = stream.rows(account, day);
  if (rows !== null) {
    const sums = stream.data.measures
      .map((name, index) => [name, stream.sum(account, index, day)])
      .filter(([, sum]) => sum !== null);
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
  return [...ORDER]
    .filter((letter) => counts[letter] && letter !== ".")
    .map((letter) => `${counts[letter]} ${STATES[letter].name}`)
    .join(", ");
}

function tell(stream, account, day, node) {
  const tip = byId("tip");
  const when = stream.when(day);
  const lines = described(stream, account, day);
  tip.replaceChildren(
    element("b", {}, `${when} · ${stream.name(account)}`),
    ...lines.map((line) => element("div", {}, line)),
  );
  if (node.classList.contains("cell"))
    node.setAttribute("aria-label", [stream.data.name, stream.name(account), when, ...lines].join(", "));
  tip.hidden = false;
  const box = node.getBoundingClientRect(),
    width = tip.offsetWidth,
    height = tip.offsetHeight;
  const left = Math.min(
    Math.max(8, box.left + box.width / 2 - width / 2),
    document.documentElement.clientWidth - width - 8,
  );
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
    at(cell, (...place) => showRead(...place, cell));
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
  const box = cell.closest(".calendar"),
    label = box.querySelector("th").offsetWidth;
  const left = cell.offsetLeft - label - 8,
    right = cell.offsetLeft + cell.offsetWidth + 8 - box.clientWidth;
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
