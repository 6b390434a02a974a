"""Program of the reference root: parses the question, delegates reading to leaves, and computes the answer.

It is written from the questions' words and imports nothing of the generators, but it has the same author. A solver by another
author is ``tests/evals/independent_solver.py``. Standard library only, because it runs inside the sandbox. Tests call ``solve``
outside it, with a function that answers prompts. Leaves read labels, needles, assignments, words and fields; they never count.

One file, because setup code is one source. A node splits its text, has leaf calls or child nodes read the pieces, and merges
their findings. The root then computes the answer. A child's answer is its findings as JSON.
"""

import datetime
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Any, TypeAlias

Findings: TypeAlias = list[Any]
Ask: TypeAlias = Callable[[list[str]], Sequence[object]]
Child: TypeAlias = Callable[[list[str]], Sequence[Any]]
Prepared: TypeAlias = tuple[list[str], list[Callable[[str], Findings]]]
Rows: TypeAlias = list[tuple[datetime.date, int, str]]

ROWS_PER_PROMPT = 40
RECORDS_PER_PROMPT = 20
PIECE_CHARS = 24_000
OVERLAP_CHARS = 400  # longer than any needle or assignment, so that each is complete in some piece
FANOUT = 4
FIELDS = ("cveID", "vendorProject", "dateAdded", "dueDate", "knownRansomwareCampaignUse", "cwes")

ROW = re.compile(r"^Date: (\w{3} \d{1,2}, \d{4}) \|\| User: (\d+) \|\| Instance: (.*)$", re.M)
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

LABEL_PROMPT = (
    "{about}\n\nSay for each of the following lines which of the labels it has. Reply with one line for each, as "
    "`number: label`, and nothing else.\n\n{lines}"
)
NEEDLE_PROMPT = (
    "What are all the special magic values for {keys} mentioned in the text below? Reply with one line for each, as "
    "`key = value`, or with NONE if there is none.\n\nText:\n{text}"
)
VARIABLE_PROMPT = (
    "List every assignment to a variable (a line that begins with VAR) in the text below, as it is written, one a line, or "
    "NONE if there is none.\n\nText:\n{text}"
)
WORD_PROMPT = (
    "Count how often each word stands in the list below (numbers and dots are not words). Reply with one line for each word, "
    "as `word: count`.\n\nText:\n{text}"
)
RECORD_PROMPT = (
    "Give these fields of each record below: {fields}. Reply with one JSON object a line, in order.\n\nText:\n{text}"
)


def search(pattern: str, text: str) -> re.Match[str]:
    """Match of a required part of a question."""
    match = re.search(pattern, text)
    if not match:
        raise ValueError(f"the question must be of a known form; got {text[:300]!r}")
    return match


def kind_of(question: str) -> str:
    """Family of a question, by its words."""
    if "special magic" in question:
        return "needles"
    if "assigned the value" in question:
        return "variables"
    if "common words in" in question or "appeared words" in question:
        return "words"
    if "vendorProject" in question or "cveID" in question or "dateAdded" in question:
        return "records"
    return "rows"


# Splitting, reading, merging.


def gather(question: str, text: str, ask: Ask, child: Child | None = None) -> Findings:
    """All findings in ``text``. ``ask(prompts)`` answers leaf prompts, ``child(texts)`` returns the findings of child nodes."""
    kind = kind_of(question)
    if child is not None:
        texts = divide(kind, text)
        return merge(kind, [json.loads(findings) for findings in child(texts)])
    prompts, readers = prepare(kind, question, text)
    replies = ask(prompts)
    return merge(kind, [read(str(reply)) for read, reply in zip(readers, replies, strict=True)])


def divide(kind: str, text: str) -> list[str]:
    """Parts of a node's text for its children, with overlaps at the borders."""
    if kind == "records":
        records = json.loads(text)
        size = -(-len(records) // FANOUT) or 1
        return [json.dumps(records[i : i + size], ensure_ascii=False) for i in range(0, len(records), size)]
    if kind == "rows":
        rows = [match[0] for match in ROW.finditer(text)]
        size = -(-len(rows) // FANOUT) or 1
        about = describe_labels(text)
        return [about + "\n\n" + "\n".join(rows[i : i + size]) for i in range(0, len(rows), size)]
    return cut(kind, text, max(PIECE_CHARS, -(-len(text) // FANOUT)))


def cut(kind: str, text: str, size: int) -> list[str]:
    """Pieces of about ``size`` characters. Word lists are split between words; other pieces overlap."""
    pieces, start = [], 0
    while start < len(text):
        end = min(len(text), start + size)
        if kind == "words":
            while end < len(text) and not text[end].isspace():
                end += 1
            pieces.append(text[start:end])
        else:
            pieces.append(text[start : end + OVERLAP_CHARS])
        start = end
    return pieces


def describe_labels(text: str) -> str:
    return text[: text.find("\n\n")] if "\n\n" in text else ""


def prepare(kind: str, question: str, text: str) -> Prepared:
    """Leaf prompts, each with the function that parses its reply."""
    if kind == "rows":
        return prepare_rows(text)
    if kind == "records":
        return prepare_records(text)
    pieces = cut(kind, text, PIECE_CHARS)
    if kind == "needles":
        keys = needle_keys(question)
        return [NEEDLE_PROMPT.format(keys=", ".join(keys), text=piece) for piece in pieces], [read_needles] * len(
            pieces
        )
    prompt, read = (VARIABLE_PROMPT, read_variables) if kind == "variables" else (WORD_PROMPT, read_words)
    return [prompt.format(text=piece) for piece in pieces], [read] * len(pieces)


def prepare_rows(text: str) -> Prepared:
    rows = [match.groups() for match in ROW.finditer(text)]
    about = describe_labels(text)
    names = re.findall(r"'([^']+)'(?=[,. ]|$)", about)
    prompts: list[str] = []
    readers: list[Callable[[str], Findings]] = []
    for start in range(0, len(rows), ROWS_PER_PROMPT):
        part = rows[start : start + ROWS_PER_PROMPT]
        lines = "\n".join(f"{number}. {instance}" for number, (_, _, instance) in enumerate(part, 1))
        prompts.append(LABEL_PROMPT.format(about=about, lines=lines))
        readers.append(partial(read_labels, part=part, names=names))
    return prompts, readers


def read_labels(reply: str, part: Sequence[Sequence[str]], names: Sequence[str]) -> Findings:
    """Rows with their labels. A row that the reply omits has an empty label."""
    replies = dict(re.findall(r"^\s*(\d+)\s*[:.)]\s*(.+?)\s*$", reply, re.M))
    labels = {number: as_known(text.strip(" *'`.\""), names) for number, text in replies.items()}
    return [[day, int(user), labels.get(str(number), "")] for number, (day, user, _) in enumerate(part, 1)]


def as_known(text: str, names: Sequence[str]) -> str:
    """Label in the header's spelling, for a reply that varies it."""
    for name in sorted(names, key=len, reverse=True):
        if name.lower() == text.lower() or re.search(rf"\b{re.escape(name.lower())}\b", text.lower()):
            return name
    return text


def prepare_records(text: str) -> Prepared:
    records = json.loads(text)
    prompts: list[str] = []
    readers: list[Callable[[str], Findings]] = []
    for start in range(0, len(records), RECORDS_PER_PROMPT):
        part = "\n".join(
            json.dumps(record, ensure_ascii=False) for record in records[start : start + RECORDS_PER_PROMPT]
        )
        prompts.append(RECORD_PROMPT.format(fields=", ".join(FIELDS), text=part))
        readers.append(read_records)
    return prompts, readers


def read_records(reply: str) -> Findings:
    records = []
    for line in reply.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "cveID" in record:
            records.append(record)
    return records


def read_needles(reply: str) -> Findings:
    return [list(pair) for pair in re.findall(r"^(\S+) = (\S+)$", reply, re.M)]


def read_variables(reply: str) -> Findings:
    return [list(pair) for pair in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", reply)]


def read_words(reply: str) -> Findings:
    return [[word, int(count)] for word, count in re.findall(r"^(\S+): (\d+)$", reply, re.M)]


def merge(kind: str, parts: Sequence[Findings]) -> Findings:
    findings = [finding for part in parts for finding in part]
    if kind == "words":
        counts: Counter[str] = Counter()
        for word, count in findings:
            counts[word] += count
        return [list(pair) for pair in counts.items()]
    if kind == "needles":  # a needle in an overlap appears twice
        return [list(pair) for pair in dict.fromkeys((key, value) for key, value in findings)]
    return findings


# Answers.


def solve(question: str, text: str, ask: Ask, child: Child | None = None) -> object:
    """Answer to a question about a text."""
    return conclude(question, gather(question, text, ask, child))


def conclude(question: str, findings: Findings) -> object:
    """Answer computed from the findings."""
    kind = kind_of(question)
    if kind == "needles":
        return ", ".join(value for key in needle_keys(question) for name, value in findings if name == key)
    if kind == "variables":
        return answer_variables(question, findings)
    if kind == "words":
        number = 10 if "10 most" in question else 3
        ranked = sorted(findings, key=lambda pair: -pair[1])
        return ", ".join(word for word, _ in ranked[:number])
    if kind == "records":
        return answer_records(question, findings)
    rows = [(read_day(day), user, label) for day, user, label in findings]
    return answer_pairs(question, rows) if "list all pairs" in question else answer_rows(question, rows)


def needle_keys(question: str) -> list[str]:
    listed = search(r"special magic \w+ for (.+?) mentioned in", question)[1]
    return [key for key in re.split(r",? and |, ", listed) if key]


def answer_variables(question: str, findings: Findings) -> str:
    value = search(r"assigned the value (\w+)", question)[1]
    source: dict[str, str] = dict(findings)

    def origin(name: str) -> str:
        seen: set[str] = set()
        while name in source and name not in seen:
            seen.add(name)
            name = source[name]
        return name

    return ", ".join(name for name in source if origin(name) == value)


# Records.


def answer_records(question: str, records: Findings) -> object:
    unique = list({record["cveID"]: record for record in records}.values())
    asked = question.partition("Give your final answer")[0]
    quoted = re.findall(r"'([^']*)'", asked)
    vendor = re.search(r"vendorProject '(.*?)'(?: and|\?|,| which|$)", asked)
    name = vendor[1] if vendor else ""
    of_vendor = [record for record in unique if record["vendorProject"] == name]
    if question.startswith("List the cveID"):
        return sorted(record["cveID"] for record in of_vendor if quoted[-1] in record["cwes"])
    if "most days" in question:
        return "Answer: " + max(of_vendor, key=days_to_due)["cveID"]
    if "earliest dateAdded" in question:
        return "Answer: " + sorted(record["dateAdded"] for record in of_vendor)[0]
    if "In which month" in question:
        months = [record["dateAdded"][:7] for record in unique if record["knownRansomwareCampaignUse"] == quoted[-1]]
        return "Answer: " + Counter(months).most_common(1)[0][0]
    if "has the most records" in question:
        year = search(r"dateAdded in (\d{4})", question)[1]
        vendors = [record["vendorProject"] for record in unique if record["dateAdded"].startswith(year)]
        return "Answer: " + Counter(vendors).most_common(1)[0][0]
    if "both inclusive" in question:
        first, last = re.findall(r"\d{4}-\d\d-\d\d", question)[:2]
        return f"Answer: {len([record for record in unique if first <= record['dateAdded'] <= last])}"
    if "knownRansomwareCampaignUse" in question:
        return f"Answer: {len([r for r in of_vendor if r['knownRansomwareCampaignUse'] == quoted[-1]])}"
    vendors_of: defaultdict[str, set[str]] = defaultdict(set)
    for record in unique:
        for cwe in record["cwes"]:
            vendors_of[cwe].add(record["vendorProject"])
    matching = vendors_of[quoted[0]]
    for cwe in quoted[1:]:
        matching = matching & vendors_of[cwe]
    return f"Answer: {len(matching)}"


def days_to_due(record: dict[str, str]) -> int:
    due, added = (datetime.date.fromisoformat(record[name]) for name in ("dueDate", "dateAdded"))
    return (due - added).days


# Rows of OOLONG.


def read_day(text: str) -> datetime.date:
    match = re.search(r"(\d{4})-(\d\d)-(\d\d)", text)
    if match:
        return datetime.date(*map(int, match.groups()))
    month, day, year = search(r"(\w+) (\d+), (\d+)", text).groups()
    return datetime.date(int(year), [name[:3] for name in MONTHS].index(month[:3]) + 1, int(day))


def in_scope(question: str, rows: Rows) -> Rows:
    """Rows in the scope of a question."""
    match = re.search(r"(?:user IDs|users with IDs) ([\d, ]+)\. Among", question)
    if match:
        users = {int(number) for number in re.findall(r"\d+", match[1])}
        return [row for row in rows if row[1] in users]
    match = re.search(r"that occur in (\w+) of any year", question)
    if match:
        return [row for row in rows if row[0].month == MONTHS.index(match[1]) + 1]
    match = re.search(r"that occur between (.+?) and (.+?), inclusive", question)
    if match:
        first, last = read_day(match[1]), read_day(match[2])
        return [row for row in rows if first <= row[0] <= last]
    return rows


def answer_rows(question: str, rows: Rows) -> str:
    rows = in_scope(question, rows)
    text = question.rpartition("Among")[2]
    labels = Counter(label for _, _, label in rows)
    if "data points should be classified" in text:
        return f"Answer: {labels[search(r'as label .(.+?).[?]', text)[1]]}"
    if "which of the labels is the most common" in text:
        return "Label: " + labels.most_common(1)[0][0]
    if "which of the labels is the least common" in text:
        return "Label: " + min(labels, key=lambda label: labels[label])
    match = re.search(r"is label '(.+?)' more common, less common, or the same frequency as label '(.+?)'", text)
    if match:
        first, second = match.groups()
        return f"Answer: {first} is {compare(labels[first], labels[second])} {second}"
    if "which user" in text:
        return "User: " + str(answer_user(text, rows))
    return answer_dates(text, rows)


def compare(first: int, second: int) -> str:
    if first == second:
        return "same frequency as"
    return "more common than" if first > second else "less common than"


def answer_user(text: str, rows: Rows) -> int:
    match = re.search(r"more instances with the label (.+?): User (\d+) or User (\d+)", text)
    if match:
        counts = Counter(user for _, user, label in rows if label == match[1])
        return max(int(match[2]), int(match[3]), key=lambda user: counts[user])
    match = re.search(r"most instances with the label (.+?)\?", text)
    counts = Counter(user for _, user, label in rows if not match or label == match[1])
    return counts.most_common(2)[1 if "second most often" in text else 0][0]


def answer_dates(text: str, rows: Rows) -> str:
    days = Counter(day for day, _, _ in rows)
    match = re.search(r"represented exactly (\d+) times", text)
    if match:
        return f"Answer: {list(days.values()).count(int(match[1]))}"
    if "which date" in text:
        day = days.most_common(2)[1 if "second most often" in text else 0][0]
        return f"Date: {day.month:02d}/{day.day:02d}/{day.year}"
    match = re.search(r"was label '(.+?)' more common.*? before (.+?), as compared", text)
    if match:
        label, day = match[1], read_day(match[2])
        before = [row_label for when, _, row_label in rows if when < day]
        after = [row_label for when, _, row_label in rows if when > day]
        first, second = before.count(label) * len(after), after.count(label) * len(before)
        word = "the same frequency" if first == second else "more common" if first > second else "less common"
        return f"Answer: {label} is {word} before {day}"
    return answer_months(text, rows)


def answer_months(text: str, rows: Rows) -> str:
    months: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for day, _, label in rows:
        months[day.year, day.month][label] += 1
    match = re.search(r"does the label '(.+?)' occur more frequently than the label '(.+?)'", text)
    if match:
        return f"Answer: {len([1 for counts in months.values() if counts[match[1]] > counts[match[2]]])}"
    match = re.search(r"which month did the label '(.+?)'? first occur more often than the label '(.+?)'", text)
    if match:
        year, month = min(when for when, counts in months.items() if counts[match[1]] > counts[match[2]])
        return f"Answer: {MONTHS[month - 1]} {year}"
    label = search(r"is the label '(.+?)' the single most", text)[1]
    number = 0
    for counts in months.values():
        top = counts.most_common(2)
        number += top[0][0] == label and (len(top) == 1 or top[0][1] > top[1][1])
    return f"Answer: {number}"


# Pairs.


def answer_pairs(question: str, rows: Rows) -> str:
    names = search(r"semantics of the \w+\): (.+?)\. In your answer", question)[1].split(", ")
    condition = question.partition("list lower ID first) ")[2].partition(". Each of the")[0]
    of_user: defaultdict[int, list[tuple[datetime.date, str]]] = defaultdict(list)
    for day, user, label in rows:
        of_user[user].append((day, label))
    if condition.startswith("where both users"):
        users = sorted(user for user, own in of_user.items() if fits_both(condition, names, own))
        return "\n".join(f"({a}, {b})" for a, b in combinations(users, 2))
    left, right = search(r"such that one user has (.*), and the other user has (.*)", condition).groups()
    counts = {user: Counter(label for _, label in own) for user, own in of_user.items()}
    lefts = [user for user in counts if fits_side(left, counts[user])]
    rights = [user for user in counts if fits_side(right, counts[user])]
    pairs = {(min(a, b), max(a, b)) for a in lefts for b in rights if a != b}
    return "\n".join(f"({a}, {b})" for a, b in sorted(pairs))


def fits_both(condition: str, names: Sequence[str], own: Sequence[tuple[datetime.date, str]]) -> bool:
    having, _, limit = condition.partition(", and all instances that are ")
    wanted = {name for name in names if re.search(rf"\b{re.escape(name)}\b", having)}
    if not any(label in wanted for _, label in own):
        return False
    if not limit:
        return True
    named = next(name for name in names if name in limit)
    day = read_day(search(r"(?:after|before) (\w+ \d+, \d+)", limit)[1])
    days = [when for when, label in own if label == named]
    return all(when > day for when in days) if " after " in limit else all(when < day for when in days)


def fits_side(side: str, counts: Counter[str]) -> bool:
    """``at least one instance with entity and one with abbreviation``: a term without a sign inherits the previous one."""
    sign = "at least"
    for term in re.finditer(
        r"(at least |exactly )?(one|two)(?: instances?)? with ([a-z ]+?)(?=,| and (?:at|exactly|one|two)|$)", side
    ):
        sign = (term[1] or sign).strip()
        number, label = {"one": 1, "two": 2}[term[2]], term[3].strip()
        if counts[label] < number or (sign == "exactly" and counts[label] != number):
            return False
    return True
