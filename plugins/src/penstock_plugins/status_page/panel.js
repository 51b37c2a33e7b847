// The panel: everything about a day of an account, or of all accounts of a stream.

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
  const title =
    account === null && stream.data.accounts.length > 1
      ? stream.data.name
      : `${stream.data.name}, ${stream.name(account)}`;
  panel.replaceChildren(
    element("button", { class: "close", type: "button", "aria-label": "Close", onclick: close }, "×"),
    element("h2", { id: "panel-title" }, title),
    element("p", { class: "quiet" }, `${stream.when(day)} · ${stream.source.name} to ${stream.target.name}`),
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
  return element(
    "dl",
    {},
    ...shown.flatMap(([name, value]) => [
      element("dt", {}, name),
      element("dd", {}, typeof value === "number" ? grouped(value) : value),
    ]),
  );
}

function stateBox(letter, text) {
  return element(
    "div",
    { class: "state" },
    swatch(letter),
    element("p", {}, element("b", {}, `${STATES[letter].name}. `), text),
  );
}

function sentence(letter, { closes, notes, changes, read }) {
  const parts = [];
  if (letter === "m")
    return "This day lies between the first and the last one and was never delivered. A run whose window holds it reads it.";
  if (letter === "x")
    parts.push(
      read
        ? "The last try failed; rows and sums are those of the last good reading."
        : "It was never delivered; the last try failed.",
    );
  if (letter === "t") parts.push("The provider lists no more than was delivered, so there may be more records.");
  if (notes.rejected)
    parts.push(
      `${counted(notes.rejected, "record")} could not be decoded and ${notes.rejected === 1 ? "was" : "were"} rejected.`,
    );
  if (notes.unread) parts.push(`${counted(notes.unread, "value")} did not fit the column: null there, kept in _extra.`);
  if (letter !== "x") {
    if (closes === null) parts.push("It never closes: each run reads it again.");
    else if (read !== null && read >= closes) parts.push("It was read after it closed, and is not read again.");
    else parts.push(`It closes ${utc(closes)} UTC (${ahead(closes)}); until then each run reads it again.`);
  }
  if (changes.length)
    parts.push(
      `The provider restated it ${changes.length === 1 ? "once" : `${changes.length} times`} after it was delivered.`,
    );
  return parts.join(" ");
}

const UNREAD = { notes: {}, changes: [], closes: null, read: null, run: null, rows: null, promised: null };

function ofAccount(stream, account, day) {
  const letter = stream.states(account)[day];
  const empty = letter === "m" || letter === ".";
  const found = empty ? UNREAD : stream.details(account, day);
  const { notes, changes } = found;
  const sums = stream.data.measures.map((name, index) => [name, empty ? null : stream.sum(account, index, day)]);
  const zone = stream.data.accounts[account].zone;
  const parts = [stateBox(letter, sentence(letter, found))];
  if (notes.error) {
    const times = notes.attempts > 1 ? `, ${notes.attempts} failures in a row` : "";
    parts.push(element("h3", {}, `Error${times}`), element("p", { class: "error" }, notes.error));
    parts.push(
      element(
        "p",
        { class: "quiet" },
        "The next run tries again. Act only if the same failure returns, or if the message states what to correct.",
      ),
    );
  }
  if (found.read || found.run) {
    parts.push(element("h3", {}, "Last reading"));
    parts.push(
      facts([
        ["read (UTC)", found.read && `${utc(found.read)}, ${ago(found.read)}`],
        [
          found.closes !== null && found.closes <= summary.made ? "closed (UTC)" : "closes (UTC)",
          found.closes && utc(found.closes),
        ],
        ["rows", String(grouped(found.rows))],
        ["stated by the provider", found.promised === null ? null : String(grouped(found.promised))],
        ["rejected", notes.rejected],
        ["values not read", notes.unread],
        ["repeated, written once", notes.repeated],
        ...sums.map(([name, sum]) => [name, sum && grouped(sum)]),
        ...Object.entries(notes.derived ?? {}).map(([name, rows]) => [`rows of ${name}`, rows]),
        ["time zone of its days", zone],
        ["run", found.run],
      ]),
    );
  }
  for (const change of [...changes].reverse()) parts.push(...restatement(change));
  if (notes.rejected) {
    parts.push(element("h3", {}, "Rejected records"), command(stream.block.rejected));
  }
  parts.push(element("h3", {}, letter === "m" ? "Read it" : "Read it again"), command(stream.command(account, day)));
  return parts;
}

function restatement(change) {
  const table = list(["", "before", "after", "difference"], amounts(change), 1);
  const same = change.rows[0] === change.rows[1] && !change.sums.length;
  return [
    element("h3", {}, `Restated ${utc(change.at)} UTC`),
    same ? element("p", {}, "Values changed; rows and sums stayed the same.") : table,
    element("p", { class: "quiet" }, `run ${change.run}`),
  ];
}

function signed(text) {
  if (/^-?0*(\.0*)?$/.test(text)) return "0";
  return text.startsWith("-") ? `−${grouped(text.slice(1))}` : `+${grouped(text)}`;
}

function ofDay(stream, day) {
  const sums = stream.data.measures.map((name, index) => [name, stream.sum(null, index, day)]);
  const found = stream.data.accounts
    .map((account, index) => [account.states[day], index])
    .filter(([letter]) => letter !== ".");
  found.sort(([one], [other]) => ORDER.indexOf(one) - ORDER.indexOf(other));
  const lines = found.map(([letter, account]) =>
    element(
      "tr",
      {},
      element(
        "td",
        { class: "words" },
        element(
          "button",
          { class: "link", type: "button", onclick: () => show(stream, account, day) },
          stream.name(account),
        ),
      ),
      element("td", {}, swatch(letter), ` ${STATES[letter].name}`),
      element("td", { class: "number" }, letter === "m" ? "" : grouped(stream.rows(account, day))),
    ),
  );
  return [
    stateBox(stream.data.states[day], worst(stream, day)),
    facts([
      ["rows", String(grouped(stream.data.rows[day] ?? 0))],
      ...sums.map(([name, sum]) => [name, sum && grouped(sum)]),
    ]),
    element("h3", {}, "Accounts"),
    element("table", { class: "list" }, element("tbody", {}, ...lines)),
  ];
}

function neighbours(stream, account, day) {
  const letters = stream.states(account);
  const step = (to, text) => {
    const disabled = (letters[to] ?? ".") === ".";
    return element(
      "button",
      { class: "plain", type: "button", disabled, onclick: () => show(stream, account, to) },
      text,
    );
  };
  return element(
    "div",
    { class: "days" },
    step(day - 1, "← Day before"),
    step(day + 1, "Day after →"),
    account === null || stream.data.accounts.length < 2
      ? null
      : element("button", { class: "plain", type: "button", onclick: () => show(stream, null, day) }, "All accounts"),
  );
}
