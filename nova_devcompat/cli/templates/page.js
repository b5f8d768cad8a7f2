// SPDX-License-Identifier: Apache-2.0
// Copyright the nova-devcompat authors
//
// Fills the page from the data in it. Texts get in as text nodes only, never as markup. Only the part
// of the matrix and the page of guests that are looked at are made.
"use strict";
(() => {
  const ROWS = 30, GUESTS = 25, EXPLAINED = 40, HOSTS = 3;
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const STANDINGS = ["nowhere", "only-here", "one-left", "unknown", "two"];
  const SAYS = {takes: "takes", reports: "takes", unknown: "not known", refuses: "refuses"};
  let data, cell, state;

  // --- making elements ---------------------------------------------------------------------------
  function el(tag, options, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options || {})) {
      if (name === "on") for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value != null) made.setAttribute(name, value);
    }
    made.append(...children.filter((one) => one != null && one !== ""));
    return made;
  }
  // A table whose rows are blocks where there is little room: that it is a table is said, therefore.
  function table(name, heads, rows) {
    return el("table", {class: name, role: "table"},
      el("thead", {role: "rowgroup"}, el("tr", {role: "row"}, ...heads.map((text) => el("th", {scope: "col", role: "columnheader"}, text)))),
      el("tbody", {role: "rowgroup"}, ...rows));
  }
  const line = (...cells) => el("tr", {role: "row"}, ...cells.map((one) => el("td", {role: "cell"}, ...[one].flat())));
  // What comes from hosts and flavors, whichever way it is written.
  const other = (text) => el("bdi", {}, text);
  function icon(name) {
    const made = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
    made.setAttribute("class", "icon");
    made.setAttribute("aria-hidden", "true");
    made.setAttribute("focusable", "false");
    use.setAttribute("href", "#i-" + name);
    made.append(use);
    return made;
  }
  const number = (count) => count.toLocaleString("en");
  const plural = (count, word) => number(count) + " " + word + (count === 1 ? "" : "s");

  // --- reading the data --------------------------------------------------------------------------
  function row(kind) {
    if (!kind.row) {
      kind.row = [];
      for (let at = 0; at < kind.r.length; at += 2) for (let n = kind.r[at + 1]; n > 0; n--) kind.row.push(kind.r[at]);
    }
    return kind.row;
  }
  function familiesOf(kind) {
    if (!kind.families) {
      kind.families = new Set(kind.n.map((one) => data.facts[one][0]));
      for (const answer of new Set(row(kind))) {
        const [, refused, reported] = cell.answers[answer];
        for (const one of refused) kind.families.add(data.reasons[one].family);
        for (const one of reported) kind.families.add(data.reasons[one].family);
      }
    }
    return kind.families;
  }
  // What hosts or guests have, leaving out what all of them have alike.
  function facts(list) {
    const some = list.filter((one) => data.facts[one][3]);
    return (some.length ? some : list).map((one) => {
      const [family, attribute, value] = data.facts[one];
      return (attribute ? family + "." + attribute : family) + " " + value;
    });
  }
  const hostsOf = (group) => {
    const chosen = state.hosts ? group.h.filter((one) => state.hosts.has(one)) : group.h;
    return chosen.map((one) => cell.hosts[one]);
  };
  function some(names) {
    const shown = names.slice(0, HOSTS).join(", ");
    return names.length > HOSTS ? shown + " and " + number(names.length - HOSTS) + " more" : shown;
  }

  // --- filters -----------------------------------------------------------------------------------
  function options(select, all, entries) {
    select.replaceChildren(el("option", {value: ""}, all), ...entries.map(([value, text]) => el("option", {value}, text)));
  }
  function fillFilters() {
    options($("f-aggregate"), "all", cell.aggregates.map(([name], at) => [String(at), name]));
    $("l-aggregate").hidden = !cell.aggregates.length;
    options($("f-family"), "all", data.families.map((one) => [one, one]));
    options($("f-standing"), "anywhere or nowhere", STANDINGS.map((key) => [key, data.standings[key]]));
    const causes = new Set(cell.guests.cause);
    options($("f-cause"), "any", data.causes.map((one, at) => [at, one])
      .filter(([at]) => causes.has(at)).sort((a, b) => b[1].guests - a[1].guests).slice(0, 200)
      .map(([at, one]) => [String(at), one.remedy + " (" + number(one.guests) + ")"]));
  }
  function read() {
    const aggregate = $("f-aggregate").value, text = $("f-text").value.trim().toLowerCase();
    state = {
      hosts: aggregate === "" ? null : new Set(cell.aggregates[Number(aggregate)][1]),
      family: $("f-family").value, standing: STANDINGS.indexOf($("f-standing").value),
      cause: $("f-cause").value === "" ? -1 : Number($("f-cause").value), text,
      kinds: [], groups: [], guests: [], count: new Map(), firstRow: 0, firstColumn: 0, page: 0,
    };
    const guests = cell.guests, named = text && cell.hosts.map((one) => one.toLowerCase().includes(text));
    for (let at = 0; at < guests.name.length; at++) {
      const host = guests.host[at], kind = guests.kind[at];
      if (state.hosts && !state.hosts.has(host)) continue;
      if (state.standing >= 0 && guests.standing[at] !== state.standing) continue;
      if (state.cause >= 0 && guests.cause[at] !== state.cause) continue;
      if (text && !named[host] && !guests.name[at].toLowerCase().includes(text)) continue;
      if (state.family && !familiesOf(cell.kinds[kind]).has(state.family)) continue;
      state.guests.push(at);
      state.count.set(kind, (state.count.get(kind) || 0) + 1);
    }
    state.kinds = [...state.count.keys()].sort((a, b) => state.count.get(b) - state.count.get(a) || a - b);
    state.groups = cell.groups.map((_, at) => at).filter((at) => hostsOf(cell.groups[at]).length);
    // Where few guests are worst off, that is looked at first.
    state.guests.sort((a, b) => guests.standing[a] - guests.standing[b] || a - b);
  }
  function refresh() {
    read();
    const hosts = state.groups.reduce((sum, at) => sum + hostsOf(cell.groups[at]).length, 0);
    $("told").textContent = plural(state.guests.length, "guest") + " of " + plural(state.kinds.length, "kind") + ", against " +
      plural(hosts, "host") + " of " + plural(state.groups.length, "kind") +
      (cell.others ? ". " + plural(cell.others, "more guest") + " without needs, which every host takes, not shown" : "") + ".";
    drawMatrix();
    drawGuests();
  }

  // --- the matrix --------------------------------------------------------------------------------
  function columns() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    return Math.max(4, Math.floor(($("matrix").clientWidth - 15 * rem) / (9.5 * rem)));
  }
  function turn(from, step, total, what, go) {
    if (total <= step) return null;
    const button = (text, to, off) => el("button", {type: "button", disabled: off, "aria-label": text + " " + what,
      on: {click: () => go(to)}}, text);
    return el("span", {class: "turn"}, button("Previous", Math.max(0, from - step), from === 0),
      what + " " + number(from + 1) + "–" + number(Math.min(total, from + step)) + " of " + number(total),
      button("Next", from + step, from + step >= total));
  }
  function word(answer) {
    const [says, refused, reported] = cell.answers[answer];
    if (says === "takes") return "takes";
    const found = (refused.length ? refused : reported).map((one) => data.reasons[one]);
    return found[0].code + (found.length > 1 ? " +" + (found.length - 1) : "");
  }
  function drawMatrix() {
    const box = $("matrix");
    if (!state.kinds.length || !state.groups.length) {
      $("matrix-pager").replaceChildren();
      box.replaceChildren(el("p", {class: "empty"}, "No guest and host are left by the filters."));
      return;
    }
    const wide = columns(), down = state.firstRow, right = state.firstColumn;
    const groups = state.groups.slice(right, right + wide), kinds = state.kinds.slice(down, down + ROWS);
    $("matrix-pager").replaceChildren(...[
      turn(down, ROWS, state.kinds.length, "needs", (to) => { state.firstRow = to; drawMatrix(); }),
      turn(right, wide, state.groups.length, "kinds of hosts", (to) => { state.firstColumn = to; drawMatrix(); }),
    ].filter(Boolean));
    const homes = new Set(cell.guests.name.length ? state.guests.map((at) => cell.guests.kind[at] + " " + cell.groupOf[cell.guests.host[at]]) : []);
    const head = el("tr", {}, el("th", {class: "corner", scope: "col"}, "Guests need"), ...groups.map((at) => {
      const group = cell.groups[at], names = hostsOf(group);
      return el("th", {scope: "col", title: facts(group.o).join("\n")}, el("span", {class: "name"}, other(some(names))),
        el("span", {class: "facts"}, ...lines(group.p == null ? (group.o.length ? facts(group.o) : ["nothing of these families"]) : [data.reasons[group.p].meaning])));
    }));
    const body = kinds.map((number_, y) => {
      const kind = cell.kinds[number_], answers = row(kind);
      return el("tr", {}, el("th", {scope: "row", title: facts(kind.n).join("\n")}, el("span", {class: "name"}, plural(state.count.get(number_), "guest")),
        el("span", {class: "facts"}, ...lines(told(kind)))), ...groups.map((at, x) => {
        const says = cell.answers[answers[at]][0];
        return el("td", {class: "v-" + says + (homes.has(number_ + " " + at) ? " home" : ""), tabindex: x || y ? "-1" : "0", "data-kind": number_, "data-group": at},
          el("span", {class: "cell"}, icon(says), el("span", {}, el("span", {class: "unseen"}, says === "takes" ? "" : SAYS[says] + ": "), word(answers[at]))));
      }));
    });
    box.replaceChildren(el("table", {class: "matrix", role: "grid", "aria-labelledby": "h-matrix", "aria-describedby": "matrix-help"},
      el("thead", {}, head), el("tbody", {}, ...body)));
  }
  const lines = (texts) => texts.flatMap((text, at) => at ? [el("br"), other(text)] : [other(text)]);
  const told = (kind) => facts(kind.n).concat(kind.d.map((one) => data.reasons[one].meaning));
  function moveInMatrix(event) {
    const from = event.target.closest("td");
    if (!from) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      openPair(Number(from.dataset.kind), Number(from.dataset.group), from);
      return;
    }
    const line = from.parentElement, rows = [...line.parentElement.rows], y = rows.indexOf(line), x = from.cellIndex;
    const last = line.cells.length - 1;
    const to = {ArrowRight: [y, x + 1], ArrowLeft: [y, x - 1], ArrowDown: [y + 1, x], ArrowUp: [y - 1, x], Home: [y, 1], End: [y, last],
      PageUp: [0, x], PageDown: [rows.length - 1, x]}[event.key];
    if (!to) return;
    event.preventDefault();
    const next = rows[to[0]] && to[1] > 0 && rows[to[0]].cells[to[1]];
    if (!next) return;
    from.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    next.scrollIntoView({block: "nearest", inline: "nearest"});
  }

  // --- the guests --------------------------------------------------------------------------------
  function badge(standing) {
    const key = STANDINGS[standing];
    return el("span", {class: "badge s-" + key}, icon(key === "two" ? "takes" : key), data.standings[key]);
  }
  function drawGuests() {
    const guests = cell.guests, shown = state.guests.slice(state.page, state.page + GUESTS);
    const pager = turn(state.page, GUESTS, state.guests.length, "guests", (to) => { state.page = to; drawGuests(); });
    $("guests-pager").replaceChildren(...(pager ? [pager] : []));
    if (!shown.length) {
      $("guests").replaceChildren(el("p", {class: "empty"}, "No guest is left by the filters."));
      return;
    }
    $("guests").replaceChildren(table("list", ["Guest", "On host", "Can go", "Needs"], shown.map((at) => line(
      el("button", {type: "button", class: "link", on: {click: (event) => openGuest(at, event.currentTarget)}}, other(guests.name[at])),
      other(hostName(guests.host[at])),
      badge(guests.standing[at]),
      other(told(cell.kinds[guests.kind[at]]).join("; "))))));
  }
  const hostName = (at) => at < 0 ? "not known" : cell.hosts[at];

  // --- the card ----------------------------------------------------------------------------------
  function reasonOf(at, reported) {
    const one = data.reasons[at];
    const facts = [one.needed && "needs " + one.needed, one.offered && "offered " + one.offered, one.detail].filter(Boolean).join(", ");
    return el("li", {}, reported ? "only reported: " : null, other(one.subject), ": ", facts ? other(facts + (one.meaning ? ", " : "")) : null, one.meaning + " ",
      data.codes.includes(one.code) ? el("a", {href: "#reason-" + one.code, on: {click: () => $("card").close()}}, el("code", {}, one.code)) : el("code", {}, other(one.code)),
      el("span", {class: "act"}, " · " + one.remedy + " (" + one.actor + ")"));
  }
  function verdict(says) {
    return el("span", {class: "verdict v-" + says}, icon(says), says === "reports" ? "takes, and reports" : SAYS[says]);
  }
  function factsList(list, none) {
    if (!list.length) return el("p", {class: "note"}, none);
    return el("dl", {class: "facts-list"}, ...list.flatMap((at) => {
      const [family, attribute, value] = data.facts[at];
      return [el("dt", {}, other(attribute ? family + "." + attribute : family)), el("dd", {}, other(value))];
    }));
  }
  function hostsList(names) {
    if (names.length <= HOSTS) return other(names.join(", "));
    return el("details", {}, el("summary", {}, other(some(names))), other(names.slice(HOSTS).join(", ")));
  }
  function explainRows(kind, groups, own) {
    const answers = row(cell.kinds[kind]);
    return groups.map((at) => {
      const [says, refused, reported] = cell.answers[answers[at]];
      const names = cell.groups[at].h.filter((one) => one !== own).map((one) => cell.hosts[one] + (cell.down[one] ? " (down)" : ""));
      const here = own >= 0 && cell.groupOf[own] === at;
      return line([here ? el("span", {}, el("strong", {}, "here"), names.length ? ", " : "") : "", names.length ? hostsList(names) : ""],
        verdict(says),
        refused.length + reported.length ? el("ul", {}, ...refused.map((one) => reasonOf(one)), ...reported.map((one) => reasonOf(one, true))) : "nothing is in the way");
    });
  }
  function explainTable(kind, groups, own) {
    const made = table("explain", ["Hosts", "Says", "Why, and who can change that"], explainRows(kind, groups.slice(0, EXPLAINED), own));
    const more = groups.length > EXPLAINED ? el("button", {type: "button", on: {click: () => {
      made.tBodies[0].append(...explainRows(kind, groups.slice(EXPLAINED), own));
      more.remove();
    }}}, "Show " + number(groups.length - EXPLAINED) + " more kinds of hosts") : null;
    return [el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "What each host says"}, made), more];
  }
  function open(title, from, ...content) {
    const card = $("card");
    card.replaceChildren(el("div", {class: "card"}, el("div", {class: "card-head"}, el("h2", {id: "card-title"}, ...title),
      el("button", {type: "button", on: {click: () => card.close()}}, "Close")), ...content.flat().filter(Boolean)));
    card.onclose = () => { if (from.isConnected && !location.hash.startsWith("#reason-")) from.focus(); };
    card.showModal();
    card.scrollTop = 0;
  }
  function openGuest(at, from) {
    const guests = cell.guests, kind = guests.kind[at], own = guests.host[at], answers = row(cell.kinds[kind]);
    const groups = cell.groups.map((_, one) => one).sort((a, b) => answers[a] - answers[b] || a - b);
    const cause = data.causes[guests.cause[at]];
    open(["Guest ", other(guests.name[at])], from, el("p", {}, "On ", other(hostName(own)), " · ", badge(guests.standing[at])),
      cause ? el("p", {}, el("strong", {}, "What to do: "), other(cause.remedy)) : null,
      el("h3", {}, "What it needs"), factsList(cell.kinds[kind].n, "Nothing that is known."),
      el("h3", {}, "What each host says, the nearest first"), explainTable(kind, groups, own));
  }
  function openPair(kind, group, from) {
    open([plural(state.count.get(kind), "guest") + " against " + plural(cell.groups[group].h.length, "host")], from,
      el("h3", {}, "What the guests need"), factsList(cell.kinds[kind].n, "Nothing that is known."),
      el("h3", {}, "What the hosts have"), factsList(cell.groups[group].o, "Nothing that is known."),
      el("h3", {}, "What they say"), explainTable(kind, [group], -1));
  }

  // --- start -------------------------------------------------------------------------------------
  function choose(at) {
    cell = data.cells[at];
    if (!cell.groupOf) {
      cell.groupOf = [];
      cell.groups.forEach((group, number_) => group.h.forEach((host) => { cell.groupOf[host] = number_; }));
    }
    fillFilters();
    refresh();
  }
  function start() {
    data = JSON.parse($("fleet").textContent);
    if (!data.cells.length) return;
    $("f-cell").replaceChildren(...data.cells.map((one, at) => el("option", {value: String(at)}, one.name)));
    $("l-cell").hidden = data.cells.length < 2;
    $("live").hidden = false;
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", () => setTimeout(() => choose(Number($("f-cell").value))));
    $("filters").addEventListener("change", (event) => {
      if (event.target.id === "f-cell") choose(Number(event.target.value));
      // A text is heard of while it is typed; this comes when it is left, by a press on what would be redrawn.
      else if (event.target.id !== "f-text") refresh();
    });
    let typed;
    $("f-text").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(refresh, 150); });
    $("matrix").addEventListener("keydown", moveInMatrix);
    $("matrix").addEventListener("click", (event) => {
      const to = event.target.closest("td");
      if (to) openPair(Number(to.dataset.kind), Number(to.dataset.group), to);
    });
    for (const button of document.querySelectorAll(".show")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const cause = Number(button.dataset.cause), at = data.cells.findIndex((one) => one.guests.cause.includes(cause));
        $("filters").reset();
        $("f-cell").value = String(at);
        // After the reset, which is heard of later.
        setTimeout(() => { choose(at); $("f-cause").value = String(cause); refresh(); $("h-guests").scrollIntoView(); $("guests").focus({preventScroll: true}); });
      });
    }
    addEventListener("hashchange", () => { const to = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1))); if (to) to.focus(); });
    let resized, wide = 0;
    addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (columns() !== wide) { wide = columns(); drawMatrix(); } }, 150); });
    choose(0);
    wide = columns();
    performance.mark("devcompat-ready");
  }
  // The summary is painted first.
  requestAnimationFrame(() => setTimeout(start));
})();
