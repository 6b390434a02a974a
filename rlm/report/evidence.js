"use strict";
// The evidence of a run: citations, coverage, and documents with what was read and cited. Their texts are untrusted and are set
// as textContent only. Nothing here runs before page.js has defined its functions.

const STRIPES = 200;  // of a bar, at most: a document can have been read in thousands of pieces
const MAX_EXCERPT = 200;  // characters by which the calls that read a passage are found
const AROUND_POINTER = 40;  // characters of a passage, to both sides of the pointer
const MAX_READERS = 30;
const itemOfDocument = new Map();
let folder = "";  // that all documents are in

// The folder that all paths begin with, which the tree leaves out.
function sharedFolder(paths) {
  if (paths.length < 2) return "";
  let shared = paths[0];
  for (const path of paths) while (!path.startsWith(shared)) shared = shared.slice(0, -1);
  return shared.slice(0, shared.lastIndexOf("/") + 1);
}

function addDocuments(root) {
  if (!data.documents.length) return;
  folder = sharedFolder(data.documents.map((thing) => thing.path));
  const label = data.coverage ? data.coverage.summary : plural(data.documents.length, "document");
  const parent = add(root, "documents", label, { documents: data.documents }, data.documents.length <= 20);
  const shares = new Map((data.coverage ? data.coverage.documents : []).map((read) => [read.path, read]));
  for (const thing of data.documents) {
    const item = add(parent, "document", documentLabel(thing, shares.get(thing.path)), thing, true);
    itemOfDocument.set(thing.path, item);
  }
}

function documentLabel(thing, read) {
  const cited = new Set(thing.segments.flatMap((segment) => segment[2] || [])).size;
  const share = read && read.chars ? ` · read ${Math.floor((100 * read.read) / read.chars)} %` : "";
  return `${thing.path.slice(folder.length) || "context"}${share}${cited ? ` · ${plural(cited, "citation")}` : ""}`;
}

function button(className, label, action) {
  const made = element("button", className, label);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// A citation leads to its place in the document, and to the calls that were shown its words.

function citations() {
  if (!data.citations.length) return [];
  const list = element("ol", "citations");
  data.citations.forEach((cited, number) => {
    const entry = element("li", cited.verified ? "" : "failed");
    const place = [cited.path, cited.place].filter(Boolean).join(", ");
    entry.append(element("b", "", cited.verified ? place : "not found in the sources"), document.createTextNode(": "));
    const words = citedWords(number);
    if (words) {
      const open = button("quote", `“${cited.quote}”`, () => showCitation(number));
      open.title = "Show it in its document";
      entry.append(open);
    } else entry.append(element("q", "", cited.quote));
    if (cited.verified) entry.append(readers(words || cited.quote));
    list.append(entry);
  });
  return [element("h3", "", "Citations"), list];
}

function citedWords(number) {
  const cited = data.citations[number];
  const item = itemOfDocument.get(cited.path);
  const segments = item ? item.thing.segments.filter((segment) => segment.length === 3 && segment[2].includes(number)) : [];
  return segments.map((segment) => segment[0]).join("");
}

function showCitation(number) {
  const item = itemOfDocument.get(data.citations[number].path);
  if (!item) return;
  reveal(item);
  const mark = detail.querySelector(`[data-cited~="${number}"]`);
  if (!mark) return;
  mark.scrollIntoView({ block: "center" });
  mark.classList.add("aimed");
}

// A button that finds the calls whose prompts hold these words: it goes to the only one, or lists them.
function readers(words) {
  const place = element("span", "readers");
  place.append(button("reader", "call that read it", () => {
    const calls = callsWith(words);
    if (calls.length === 1) showReader(calls[0], words);
    else place.replaceChildren(...readerList(calls, words));
  }));
  return place;
}

function readerList(calls, words) {
  if (!calls.length) return [element("i", "", " no recorded call holds these words")];
  const listed = calls.slice(0, MAX_READERS).map((call) => button("reader", nameOf(call), () => showReader(call, words)));
  const more = calls.length - listed.length;
  return [element("i", "", ` read by ${plural(calls.length, "call")}:`), ...listed, ...(more ? [element("i", "", ` and ${count(more)} more`)] : [])];
}

function nameOf(call) {
  return call.of === null ? `turn ${call.turn} of node ${data.nodes[call.node].id}` : call.id;
}

function showReader(call, words) {
  reveal(itemOfCall.get(call));
  bringWordsIntoView(words);
}

function excerptOf(words) {
  return [...words.trim()].slice(0, MAX_EXCERPT).join("").trim();
}

function callsWith(words) {
  const excerpt = excerptOf(words);
  const found = excerpt ? data.calls.filter((call) => !call.superseded && (call.prompt || "").includes(excerpt)) : [];
  return found.sort((one, other) => one.starts - other.starts);
}

// Marks the words in the prompt that is shown, and scrolls to them.
function bringWordsIntoView(words) {
  const excerpt = visible(excerptOf(words));
  for (const block of detail.querySelectorAll("pre")) {
    const text = block.textContent;
    const from = text.indexOf(excerpt);
    if (from < 0) continue;
    const mark = element("mark", "aimed", excerpt);
    block.replaceChildren(text.slice(0, from), mark, text.slice(from + excerpt.length));
    mark.scrollIntoView({ block: "center" });
    return;
  }
}

function coverage() {
  if (!data.coverage) return [];
  const table = element("table", "coverage");
  for (const read of data.coverage.documents) {
    const row = element("tr", read.read ? "" : "failed");
    const bar = element("canvas");
    bar.width = STRIPES;
    bar.height = 10;
    const pen = bar.getContext("2d");
    pen.fillStyle = colour("leaf");
    for (const [from, to] of read.ranges) pen.fillRect((from / read.chars) * STRIPES, 0, Math.max(1, ((to - from) / read.chars) * STRIPES), 10);
    const share = read.chars ? Math.floor((100 * read.read) / read.chars) : 100;
    const cells = [element("td"), element("td", "", `${share} %`), element("td", "", `${count(read.chars)} characters`), element("td")];
    const item = itemOfDocument.get(read.path);
    const name = read.path || "context";
    cells[0].append(item ? button("quote", name, () => reveal(item)) : element("span", "", name));
    cells[3].append(bar);
    row.append(...cells);
    table.append(row);
  }
  return [element("h3", "", `Coverage: ${data.coverage.summary}`), table];
}

// A document: places as headings, what was read and cited as marks, and notices for what this page leaves out.

function documentView(thing) {
  const facts = [thing.kind, `${count(thing.chars)} characters`].filter(Boolean).join(", ");
  const legend = element("p", "legend", `${thing.path || "context"}: ${facts}. `);
  legend.append(element("span", "sample", "read by a model"), " ", element("mark", "", "cited"), " Press a passage for the call that read it.");
  const text = element("div", "document");
  for (const segment of thing.segments) text.append(segmentView(segment));
  const found = element("p", "readers");
  text.addEventListener("click", (event) => {
    const passage = event.target.closest(".read");
    if (!passage || String(getSelection())) return;
    const words = wordsAt(passage, event);
    found.replaceChildren(...readerList(callsWith(words), words));
  });
  return [legend, found, text];
}

// The words of a passage around the pointer: a passage can have been read by many calls, a piece each.
function wordsAt(passage, event) {
  const caret = document.caretRangeFromPoint ? document.caretRangeFromPoint(event.clientX, event.clientY) : null;
  const at = caret && passage.contains(caret.startContainer) ? caret.startOffset : 0;
  return passage.words.slice(Math.max(0, at - AROUND_POINTER), at + AROUND_POINTER);
}

function segmentView(segment) {
  if (segment.length === 1) {
    const [what] = segment;
    return typeof what === "number" ? element("p", "gap", `${count(what)} characters are not shown on this page`) : element("h3", "place", what);
  }
  const [words, isRead, numbers] = segment;
  const made = element(numbers.length ? "mark" : "span", isRead ? "read" : "", words);
  made.words = words;
  if (numbers.length) {
    made.dataset.cited = numbers.join(" ");
    made.title = `cited as ${numbers.map((number) => `[${number + 1}]`).join(" ")}`;
  }
  return made;
}
