"use strict";
// Draws one run. All text of the run is untrusted and is set as textContent only. Lists draw the rows in view, the timeline
// the lanes in view, so ten thousand calls cost no more than a screenful.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const seconds = (s) => (s === null || s === undefined ? "open" : s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(2)} s`);
const count = (n) => n.toLocaleString("en");
const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;
const lasted = (thing) => (thing.ends === null ? null : thing.ends - thing.starts);
const firstLine = (text) => (text || "").trim().split("\n", 1)[0].slice(0, 200);

// What turns the direction of text around, or is not seen at all, is shown by its number.
const visible = (text) => text.replace(/[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g,
  (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = visible(text);
  return made;
}

// The tree, as items that know their parents: nodes, turns, cells, groups of calls, calls.

const items = [];
const itemOfCall = new Map();

function add(parent, kind, label, thing, open) {
  const item = { parent, kind, label, thing, open, level: parent ? parent.level + 1 : 0, children: [], failed: false };
  if (parent) parent.children.push(item);
  items.push(item);
  return item;
}

function addCalls(parent, calls) {
  if (!calls.length) return;
  const counted = calls.filter((call) => !call.superseded);
  const again = calls.length - counted.length;
  const total = plural(counted.length, "call") + (again ? `, ${count(again)} superseded` : "");
  const failed = counted.filter((call) => call.error).length;
  const group = add(parent, "calls", failed ? `${total}, ${count(failed)} failed` : total, { calls }, calls.length <= 10);
  for (const call of calls) addCall(group, call);
}

function addTools(parent, tools) {
  if (!tools.length) return;
  const failed = tools.filter((tool) => tool.error).length;
  const total = plural(tools.length, "tool call");
  const group = add(parent, "tools", failed ? `${total}, ${count(failed)} failed` : total, { tools }, tools.length <= 10);
  for (const tool of tools) {
    const item = add(group, "tool", `${tool.interrupted ? "interrupted · " : ""}${firstLine(tool.tool)}`, tool, true);
    item.failed = Boolean(tool.error);
  }
}

function addCall(parent, call) {
  const kind = call.of === null ? `turn ${call.turn}` : call.cell === null ? "summary" : "call";
  const item = add(parent, kind, `${call.superseded ? "superseded · " : ""}${firstLine(call.prompt)}`, call, true);
  item.failed = Boolean(call.error) && !call.superseded;
  itemOfCall.set(call, item);
  return item;
}

function addNode(parent, index) {
  const node = data.nodes[index];
  const item = add(parent, `node ${node.id}`, `${node.status || "open"} · ${firstLine(node.question)}`, node, true);
  item.failed = node.status === "failed";
  const children = new Set(childrenOf.get(index) || []);
  for (const turn of turnsOf.get(index) || []) {
    const calls = callsOf.get(turn) || [];
    const [before, after] = [true, false].map((same) => calls.filter((call) => call.cell === null && (call.turn === turn.turn) === same));
    for (const summary of before) addCall(item, summary);
    const turnItem = addCall(item, turn);
    for (const cell of turn.superseded ? [] : node.cells.filter((each) => each.turn === turn.turn)) {
      const cellItem = add(turnItem, `cell ${cell.name}`, `${cell.end} · ${firstLine(cell.code)}`, cell, true);
      cellItem.failed = !["ok", "open"].includes(cell.end);
      if (cell.refused.length) add(cellItem, "refused", plural(cell.refused.length, "sub-call"), cell, true).failed = true;
      addCalls(cellItem, calls.filter((call) => call.cell === cell.number));
      addTools(cellItem, cell.tools);
      const place = `${node.id}/${cell.name}.`;
      for (const child of children) {
        if (!data.nodes[child].id.startsWith(place) || data.nodes[child].status === "superseded") continue;
        addNode(cellItem, child);
        children.delete(child);
      }
    }
    addCalls(turnItem, calls.filter((call) => call.cell !== null && !itemOfCall.has(call)));  // of a cell that counts no more
    for (const summary of after) addCall(item, summary);  // before a turn that has not started
  }
  for (const child of children) addNode(item, child);  // likewise
  return item;
}

const turnsOf = group(data.calls.filter((call) => call.of === null), (call) => call.node);
const callsOf = group(data.calls.filter((call) => call.of !== null), (call) => data.calls[call.of]);
const childrenOf = group([...data.nodes.keys()].filter((i) => data.nodes[i].parent !== null), (i) => data.nodes[i].parent);
if (data.nodes.length) addDocuments(addNode(null, 0));

function group(list, keyOf) {
  const groups = new Map();
  for (const each of list) {
    const key = keyOf(each);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(each);
  }
  return groups;
}

// The list of rows: what is open, or what was found.

const ROW = 22;
const tree = byId("tree");
const space = tree.querySelector(".space");
const rows = tree.querySelector(".rows");
let shown = [];
let found = null;
let chosen = null;

function listItems() {
  if (found) shown = found;
  else {
    shown = [];
    const walk = (item) => {
      shown.push(item);
      if (item.open) item.children.forEach(walk);
    };
    if (items.length) walk(items[0]);
  }
  space.style.height = `${shown.length * ROW}px`;
  drawRows();
}

function drawRows() {
  const first = Math.max(0, Math.floor(tree.scrollTop / ROW) - 5);
  const last = Math.min(shown.length, first + Math.ceil(tree.clientHeight / ROW) + 10);
  rows.style.top = `${first * ROW}px`;
  rows.replaceChildren(...shown.slice(first, last).map(makeRow));
}

function makeRow(item) {
  const row = element("div", `row${item === chosen ? " chosen" : ""}${item.failed ? " failed" : ""}`);
  row.setAttribute("role", "treeitem");
  row.style.paddingLeft = `${8 + (found ? 0 : item.level * 14)}px`;
  row.append(element("span", "caret", found || !item.children.length ? "" : item.open ? "▾" : "▸"));
  row.append(element("span", "kind", `${item.kind} `), document.createTextNode(visible(item.label)));
  row.addEventListener("click", (event) => {
    if (event.target.className === "caret" || item.kind === "calls" || item.kind === "tools") item.open = !item.open;
    choose(item);
    listItems();
  });
  return row;
}

tree.addEventListener("scroll", drawRows, { passive: true });
tree.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const opens = { ArrowRight: true, ArrowLeft: false, Enter: chosen && !chosen.open, " ": chosen && !chosen.open }[event.key];
  if (!shown.length || (step === undefined && opens === undefined)) return;
  event.preventDefault();
  if (step === undefined) openOrClose(opens);
  else {
    choose(shown[Math.min(shown.length - 1, Math.max(0, shown.indexOf(chosen) + step))]);
    bringIntoView();
  }
});

// Opens or closes what is chosen; what is closed already hands over to what it is in.
function openOrClose(open) {
  if (found || !chosen) return;
  if (!open && (!chosen.open || !chosen.children.length)) choose(chosen.parent || chosen);
  else chosen.open = open;
  listItems();
  bringIntoView();
}

function bringIntoView() {
  const at = shown.indexOf(chosen);
  if ((at + 1) * ROW > tree.scrollTop + tree.clientHeight) tree.scrollTop = (at + 1) * ROW - tree.clientHeight;
  if (at * ROW < tree.scrollTop) tree.scrollTop = at * ROW;
  drawRows();
}

// What is chosen, in full.

const detail = byId("detail");

function part(name, text) {
  if (text === null || text === undefined || text === "") return [];
  return [element("h3", "", name), element("pre", "", String(text))];
}

function choose(item) {
  chosen = item;
  byId("right").classList.toggle("reading", item.kind === "document");
  const thing = item.thing;
  const parts = [element("h2", "", `${item.kind}`)];
  if ("code" in thing) {
    parts.push(element("p", "", thing.took === null ? "has not ended" : `${thing.end}, ${seconds(thing.took)}`));
    parts.push(...part("Code", thing.code), ...part("Output", thing.output));
    if (thing.refused.length) {
      parts.push(...part(`${plural(thing.refused.length, "sub-call")} refused`, [...new Set(thing.refused)].join("\n")));
    }
  } else if ("tool" in thing) {
    parts.push(element("p", "", `${thing.id}: ${seconds(lasted(thing))}, executed outside the sandbox`));
    if (thing.interrupted) parts.push(element("p", "", "Interrupted: whether it took effect is unknown."));
    parts.push(...part("Call", thing.tool), ...part("Result", thing.result), ...part("Error", thing.error));
  } else if (item.kind === "calls" || item.kind === "tools") {
    parts.push(element("p", "", item.label));
  } else if (item.kind === "documents") {
    parts.push(...citations(), ...coverage());
  } else if (item.kind === "document") {
    parts.push(...documentView(thing));
  } else if (thing.cells) {
    parts.push(element("p", "", `${thing.model}, ${thing.status || "open"}, ${seconds(lasted(thing))}`));
    parts.push(...part("Question", thing.question), ...part("Context", thing.context));
    parts.push(...part("Answer", thing.answer), ...part("Error", thing.error));
    if (thing === data.nodes[0]) parts.push(...citations(), ...coverage());
  } else {
    const waited = thing.sent === null ? "" : `, waited ${seconds(thing.sent - thing.starts)}`;
    const cost = thing.cost === null ? "" : `, $${thing.cost.toFixed(6)}`;
    const tokens = `${count(thing.in)} tokens in (${count(thing.prefix)} from the prefix cache), ${count(thing.out)} out`;
    parts.push(element("p", "", `${thing.id}: ${thing.model}, ${seconds(lasted(thing))}${waited}; ${tokens}${cost}`));
    if (thing.superseded) parts.push(element("p", "", "Superseded: other work replaced it when the run was resumed. It counts only as cost."));
    if (thing.cached) parts.push(element("p", "", "Answered from the cache of earlier runs."));
    parts.push(...part("Prompt (its newest message)", thing.prompt), ...part("Reply", thing.reply), ...part("Error", thing.error));
  }
  detail.replaceChildren(...parts);
  detail.scrollTop = 0;
  drawLanes();
}

// Search, over everything that was said, written or printed.

function textOf(item) {
  const t = item.thing;
  if ("code" in t) return [t.code, t.output, ...t.refused].join("\n");
  if ("tool" in t) return [t.id, t.tool, t.result || "", t.error || ""].join("\n");
  if (t.tools) return "";
  if (t.cells) return `${t.id}\n${t.question}\n${t.answer || ""}\n${t.error || ""}`;
  if (t.segments) return `${t.path}\n${t.segments.filter((segment) => segment.length === 3).map((segment) => segment[0]).join("")}`;
  return t.calls || t.documents ? "" : `${t.id}\n${t.prompt}\n${t.reply || ""}\n${t.error || ""}`;
}

let timer = 0;
byId("search").addEventListener("input", (event) => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const wanted = event.target.value.trim().toLowerCase();
    found = wanted ? items.filter((item) => textOf(item).toLowerCase().includes(wanted)) : null;
    byId("found").textContent = found ? `${count(found.length)} found` : "";
    tree.scrollTop = 0;
    listItems();
    if (!found && chosen) reveal(chosen);
  }, 120);
});

// The timeline: each call in the first lane that is free when it begins, so their number is what ran at once.

const LANE = 10;
const lanes = byId("lanes");
const canvas = lanes.querySelector("canvas");
const axis = byId("axis").querySelector("canvas");
const end = Math.max(data.ends, 0.001);
const view = { from: 0, to: end };
const bars = [...data.calls].sort((a, b) => a.starts - b.starts);
const laneEnds = [];
const byLane = [];

for (const call of bars) {
  let lane = laneEnds.findIndex((free) => free <= call.starts);
  if (lane < 0) lane = laneEnds.push(0) - 1;
  laneEnds[lane] = call.ends === null ? end : call.ends;
  (byLane[lane] ||= []).push(call);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
}

function fit(target, width, height) {
  const scale = window.devicePixelRatio || 1;
  if (target.width !== Math.round(width * scale) || target.height !== Math.round(height * scale)) {
    target.width = Math.round(width * scale);
    target.height = Math.round(height * scale);
    target.style.height = `${height}px`;
  }
  const pen = target.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

function drawLanes() {
  const width = lanes.clientWidth, height = lanes.clientHeight;
  if (!width || !height) return;
  lanes.querySelector(".space").style.height = `${byLane.length * LANE + 4}px`;
  const pen = fit(canvas, width, height);
  const x = (t) => ((t - view.from) / (view.to - view.from)) * width;
  const colours = Object.fromEntries(["node", "leaf", "cached", "failed", "waiting", "text"].map((name) => [name, colour(name)]));
  const first = Math.floor(lanes.scrollTop / LANE);
  const last = Math.min(byLane.length, first + Math.ceil(height / LANE) + 1);
  for (let lane = first; lane < last; lane++) {
    const y = lane * LANE - lanes.scrollTop + 2;
    for (const call of byLane[lane]) {
      const stop = call.ends === null ? end : call.ends;
      if (stop < view.from || call.starts > view.to) continue;
      const sent = call.sent === null ? call.starts : call.sent;
      pen.fillStyle = colours.waiting;
      pen.fillRect(x(call.starts), y + 3, Math.max(0, x(sent) - x(call.starts)), LANE - 8);
      pen.fillStyle = call.error ? colours.failed : call.cached ? colours.cached : colours[call.role];
      pen.fillRect(x(sent), y, Math.max(1, x(stop) - x(sent) - 0.5), LANE - 2);
      if (chosen && chosen.thing === call) {
        pen.strokeStyle = colours.text;
        pen.lineWidth = 1.5;
        pen.strokeRect(x(call.starts), y, Math.max(2, x(stop) - x(call.starts)), LANE - 2);
      }
    }
  }
  drawAxis(width);
}

function drawAxis(width) {
  const pen = fit(axis, width, 20);
  const span = view.to - view.from;
  const step = [1, 2, 5].map((n) => n * 10 ** Math.floor(Math.log10(span / 4))).find((s) => span / s <= 10) || span;
  pen.fillStyle = colour("soft");
  pen.font = "11px system-ui";
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    const x = ((t - view.from) / span) * width;
    pen.fillRect(x, 14, 1, 6);
    pen.fillText(`${Number(t.toPrecision(6))} s`, x + 3, 12);
  }
}

function callAt(event) {
  const box = canvas.getBoundingClientRect();
  const lane = Math.floor((event.clientY - box.top + lanes.scrollTop - 2) / LANE);
  const t = view.from + ((event.clientX - box.left) / box.width) * (view.to - view.from);
  const slack = ((view.to - view.from) / box.width) * 3;
  return (byLane[lane] || []).find((call) => call.starts - slack <= t && t <= (call.ends === null ? end : call.ends) + slack);
}

function move(from, to) {
  const span = Math.min(end, Math.max(end / 1e5, to - from));
  view.from = Math.max(0, Math.min(end - span, from));
  view.to = view.from + span;
  drawLanes();
}

lanes.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  const at = view.from + ((event.clientX - box.left) / box.width) * (view.to - view.from);
  const factor = Math.exp(event.deltaY / 300);
  move(at - (at - view.from) * factor, at + (view.to - at) * factor);
}, { passive: false });

let drag = null;
lanes.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, from: view.from, to: view.to, moved: false }; });
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const shift = ((drag.x - event.clientX) / lanes.clientWidth) * (drag.to - drag.from);
  if (Math.abs(drag.x - event.clientX) > 3) drag.moved = true;
  if (drag.moved) move(drag.from + shift, drag.to + shift);
});
window.addEventListener("pointerup", (event) => {
  const call = drag && !drag.moved && lanes.contains(event.target) ? callAt(event) : null;
  drag = null;
  if (call) reveal(itemOfCall.get(call));
});

// Shows an item in the tree; it ends a search.
function reveal(item) {
  if (!item) return;
  found = null;
  byId("search").value = byId("found").textContent = "";
  for (let above = item.parent; above; above = above.parent) above.open = true;
  choose(item);
  listItems();
  const at = shown.indexOf(item);
  if (at >= 0) tree.scrollTop = Math.max(0, at * ROW - tree.clientHeight / 2);
  drawRows();
}

lanes.addEventListener("scroll", drawLanes, { passive: true });
window.addEventListener("resize", () => { drawRows(); drawLanes(); });

const turns = data.calls.filter((call) => call.of === null).length;
const leaves = data.calls.filter((call) => call.cell !== null).length;
const summaries = data.calls.length - turns - leaves;
byId("title").textContent = `run ${data.run}`;
byId("summary").textContent = [
  data.nodes.length ? data.nodes[0].status || "open" : "empty",
  seconds(data.ends),
  plural(data.nodes.length, "node"),
  plural(turns, "turn"),
  ...(summaries ? [count(summaries) + (summaries === 1 ? " summary" : " summaries")] : []),
  `${plural(leaves, "leaf call")}, up to ${count(byLane.length)} open at once`,
  `${count(data.tokens)} tokens`,
  data.cost === null ? "cost unknown" : `$${data.cost.toFixed(4)}`,
].join(" · ");
listItems();
if (items.length) choose(items[0]);
