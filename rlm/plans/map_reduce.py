"""The default plan: cut the input into chunks, ask the sub-model about all of them in one batch, combine the replies.

It depends on the prompt size of the sub-model.

- A capable model notes what each chunk says about the question, then writes the answer from the notes. Notes too long for one
  prompt are merged in rounds.
- A small model (SmolLM2 with 135 million parameters) reads one page at a time and gives an answer, right or wrong, for nearly
  every page. So Python decides. An answer counts only if its words are in the text, near the rarer words of the question. The
  model is asked again about the best passages. The answer with the most support wins, and is shown with its passage.

A person sees the cells on the screen, so they are written to be read.
"""

from __future__ import annotations

from collections.abc import Generator

from rlm.plans import Task, cell

# A sub-model with larger prompts counts as capable: windows below about 6,000 tokens belong to very small models.
SMALL_PROMPT_CHARS = 16_000
# The best size for SmolLM2: with 1,200 characters it invented more, beyond 3,000 it found less.
SMALL_CHUNK_CHARS = 2_400
# Two idle cores read about 800 characters a second with it, so this many pages take them 40 s. Of more, those that share the
# rarest words with the question are read, and the plan says so.
SMALL_MAX_PAGES = 12
# Single passages: in three sentences a small model errs less than in a page.
PASSAGES = 16
# Larger chunks save prompts, but models overlook the middle of a very long one.
MAX_CHUNK_CHARS = 60_000
PROMPT_CHARS = 600  # of instructions around a chunk, without the question

CUT = '''
import json, re

def as_texts(data):
    """The texts of `context`: itself, or one for each item of a list or dict."""
    if isinstance(data, str):
        return [data]
    if isinstance(data, dict):
        data = [f"{key}: {text}" for key, value in data.items() for text in as_texts(value)]
    return [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str) for item in data]

def cut(text, size):
    """Pieces of at most `size` characters, cut at the end of a paragraph, else of a sentence, a line, a word."""
    pieces, start = [], 0
    while len(text) - start > size:
        half = start + size // 2
        ends = (text.rfind(border, half, start + size) + len(border) for border in ("\\n\\n", ". ", ".\\n", "\\n", " "))
        end = next((end for end in ends if end > half), start + size)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]

def pack(texts, size):
    """Texts joined to chunks of at most `size` characters."""
    chunks = [""]
    for piece in (piece for text in texts for piece in cut(text, size)):
        joined = f"{chunks[-1]}\\n\\n{piece}" if chunks[-1] else piece
        if len(joined) <= size:
            chunks[-1] = joined
        else:
            chunks.append(piece)
    return [chunk for chunk in chunks if chunk.strip()]
'''

SEARCH = '''
import math
import unicodedata
from collections import Counter

COMMON = set("""a about according all an and any are as at be been but by can could did do does for from give had has have he
her his how i in into is it its made many me much name named of on or our she so tell text than that the their them there they
this to was were what when where which who whom whose why will with would you""".split())

def words(text):
    """The words that mean something, cut to their first six letters so that 'sermon' meets 'sermons'."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return {word[:6] for word in re.findall(r"[^\\W_]+", re.sub("['’]s\\\\b", "", plain)) if word not in COMMON}

question_words = words(question)
seen_in = Counter(word for chunk in chunks for word in words(chunk))
rarity = {word: math.log(1 + len(chunks) / seen_in[word]) for word in question_words if seen_in[word]}

def closeness(text):
    """How much of the question's words a text holds, rare ones counting more: 0 to 1."""
    return sum(rarity[word] for word in words(text) if word in rarity) / (sum(rarity.values()) or 1)
'''


def plan(task: Task) -> Generator[str, str, None]:
    if task.max_depth == 0:
        yield from search_alone(task)
    elif task.leaf_prompt_chars < SMALL_PROMPT_CHARS:
        yield from with_small_model(task)
    else:
        yield from with_capable_model(task)


def with_capable_model(task: Task) -> Generator[str, str, None]:
    chars = task.leaf_prompt_chars - PROMPT_CHARS - len(task.question)
    size = max(1_000, min(chars, MAX_CHUNK_CHARS))
    yield cell(
        f"{CUT}\nquestion = {task.question!r}\nchunks = pack(as_texts(context), {size})\n"
        'print(len(chunks), "chunks of at most", max(map(len, chunks), default=0), "characters")',
        "I cut the input into chunks that the sub-model can read.",
    )
    yield cell(
        NOTE,
        "I ask about all chunks in one batch: what does each say about the question?",
    )
    yield cell(COMBINE.replace("SIZE", str(size)), "I combine the notes into the answer.")


NOTE = '''
instruction = f"""Here is one part of a longer text. Write down everything in it that helps to answer the question, with names,
numbers and short quotations. If it holds nothing that helps, write only NONE.

Question: {question}"""
prompts = [f"{instruction}\\n\\nPart {n} of {len(chunks)}:\\n{chunk}" for n, chunk in enumerate(chunks, 1)]
notes = llm_query_batch(prompts, recursive=False)
failed = [note for note in notes if hasattr(note, "error")]
said = [(n, note) for n, note in enumerate(notes, 1) if not hasattr(note, "error")]
kept = [f"[part {n}] {note}" for n, note in said if note.strip().strip(".") != "NONE"]
print(len(kept), "parts hold something,", len(said) - len(kept), "nothing,", len(failed), "failed", failed[:1])
'''

COMBINE = '''
def ask_over(notes, task):
    """One prompt for each packet of notes that fits into one."""
    prompts = [f"{task}\\n\\nQuestion: {question}\\n\\nNotes:\\n{packet}" for packet in pack(notes, SIZE)]
    return llm_query_batch(prompts, recursive=False)

notes = kept
while len(pack(notes, SIZE)) > 1:
    before = sum(map(len, notes))
    merged = ask_over(notes, "Merge these notes on a long text: keep all that helps to answer the question, and drop repetition.")
    notes = [note for note in merged if not hasattr(note, "error")]
    if sum(map(len, notes)) > 0.8 * before:
        break
missing = f"\\n\\n({len(failed)} of {len(chunks)} parts could not be read: {failed[0].error})" if failed else ""
if not notes:
    FINAL("Nothing in the text answers this." + missing)
else:
    answer = ask_over(notes, "Answer the question from these notes on a long text. If they do not answer it, say so.")[0]
    if hasattr(answer, "error"):
        answer = "The notes could not be combined; here they are:\\n\\n" + "\\n".join(notes)
    FINAL(answer + missing)
'''


def with_small_model(task: Task) -> Generator[str, str, None]:
    size = max(600, min(task.leaf_prompt_chars - PROMPT_CHARS - len(task.question), SMALL_CHUNK_CHARS))
    yield cell(
        f"{_prepare(task, size)}\n{CHOOSE.replace('MAX_PAGES', str(SMALL_MAX_PAGES))}",
        "I cut the input into pages that a small model can read.",
    )
    yield cell(READ, "I ask the small model about all these pages in one batch.")
    yield cell(
        f"{PASSAGES_OF}{CHECK.replace('PASSAGES', str(PASSAGES))}",
        "I keep what stands in the text, and ask again about the best passages alone.",
    )
    yield cell(DECIDE, "The answer with the most support wins.")


def _prepare(task: Task, size: int) -> str:
    return f"{CUT}\nquestion = {task.question!r}\nchunks = pack(as_texts(context), {size})\n{SEARCH}"


CHOOSE = """
pages = sorted(sorted(range(len(chunks)), key=lambda n: -closeness(chunks[n]))[:MAX_PAGES])
print(f"{len(chunks)} chunks; the {len(pages)} that share most with the question will be read")
"""

READ = """
def ask(texts):
    return llm_query_batch(
        [
            f"Read the text and answer the question.\\n\\nText:\\n{text}\\n\\nQuestion: {question}\\n"
            "Answer in one short sentence with words from the text, or write NONE."
            for text in texts
        ],
        recursive=False,
    )

replies = ask(chunks[n] for n in pages)
# A reply cut by its limit is a small model that has lost its way: no answer, but no page left unread either.
failed = [reply for reply in replies if hasattr(reply, "error") and "TruncatedReplyError" not in str(reply.error)]
print(len(replies), "replies,", len(failed), "failed", failed[:1])
for n, reply in list(zip(pages, replies))[:5]:
    print(f"  chunk {n}: {reply[:100]!r}")
"""

PASSAGES_OF = '''
def passages(chunk):
    """Each sentence of a chunk with its neighbours."""
    sentences = re.split(r"(?<=[.!?])[\\"”’']*\\s+|\\n\\s*\\n", chunk)
    return [" ".join(" ".join(sentences[max(0, n - 1) : n + 2]).split())[:700] for n in range(len(sentences))]
'''

CHECK = '''
everything = [(n, passage, words(passage), closeness(passage)) for n, chunk in enumerate(chunks) for passage in passages(chunk)]

def support(reply, passage):
    """How well a passage bears a reply out, 0 to 1: what the reply adds to the question stands there, near its words."""
    if hasattr(reply, "error") or re.search(r"NONE|\\bnot\\b.*(mention|say|stat|specif|provid)|the text", reply):
        return 0.0
    added = words(reply) - question_words
    grounded = len(added & words(passage)) / len(added) if added else 0
    return closeness(passage) * grounded if grounded >= 0.6 else 0.0

votes = []  # (support, reply, passage)
for n, reply in zip(pages, replies):
    votes.append(max(((support(reply, p), reply, p) for p in passages(chunks[n])), key=lambda vote: vote[0]))

bearing = {passage: value for value, _, passage in votes}
best, taken = [], Counter()
for n, passage, _, close in sorted(everything, key=lambda each: -each[3] - bearing.get(each[1], 0)):
    if taken[n] < 2 and len(best) < PASSAGES:  # neighbours say the same
        best.append(passage)
        taken[n] += 1
votes += [(support(reply, passage), reply, passage) for passage, reply in zip(best, ask(best))]
votes = sorted((vote for vote in votes if vote[0] > 0), key=lambda vote: -vote[0])
print(len(votes), "replies stand in the text")
for value, reply, passage in votes[:8]:
    print(f"  {value:.2f} {reply[:90]!r}")
'''

DECIDE = '''
together, alone = Counter(), Counter()
for _, _, present, close in everything:
    together.update(dict.fromkeys(present, close * close))
    alone.update(present)

def bond(reply):
    """How often the words that a reply adds keep company with the question's, everywhere in the text."""
    added = words(reply) - question_words
    return sum(together[word] / math.sqrt(alone[word] + 5) for word in added) / len(added)

NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirt|fift|dozen|hundred|thousand"
tokens = [word for chunk in chunks for word in re.findall(r"[^\\W_]+", chunk)]
capital = Counter(word[:6].lower() for word in tokens if word[0].isupper())
small = Counter(word[:6].lower() for word in tokens if word[0].islower())

def fits(reply):
    """Whether a reply is of the kind that was asked for: a name for who and where, a number for how many and when."""
    added = words(reply) - question_words
    if re.match(r"\\W*(who|whom|whose|where|what(.s| is| was) the name|((in|on|at|to|from) )?which)\\b", question, re.IGNORECASE):
        return sum(capital[word] > 4 * small[word] for word in added) / len(added)
    if re.match(r"\\W*(how (many|much|old|long|far)|when|(in )?what year)\\b", question, re.IGNORECASE):
        return float(bool(re.search(rf"(?i)\\d|\\b({NUMBERS})", reply)))
    return 1.0

def likeness(one, other):
    one, other = words(one) - question_words, words(other) - question_words
    return len(one & other) / len(one | other)

def total(reply):
    backing = sum(value * likeness(reply, other) for value, other, _ in votes)
    return (0.05 + fits(reply)) * bond(reply) * backing / math.sqrt(len(words(reply) - question_words))  # short ones first

missing = f"\\n\\n({len(failed)} of {len(pages)} pages could not be read: {failed[0].error})" if failed else ""
if votes:
    answer = max((reply for _, reply, _ in votes), key=total)
    first = max((p for _, reply, p in votes if likeness(reply, answer) > 0.5), key=lambda p: support(answer, p))
    others = [p for p in best if p not in first and first not in p][:2]
    shown = "\\n\\n".join(f"“{passage}”" for passage in [first, *others])
    FINAL(f"{answer}\\n\\nA small model says so; see for yourself:\\n\\n{shown}{missing}")
else:
    closest = "\\n\\n".join(f"“{passage}”" for passage in best[:3])
    FINAL(f"No passage was found that answers this. Closest to the question:\\n\\n{closest}{missing}")
'''

SHOW_CLOSEST = """
best = sorted({p for chunk in chunks for p in passages(chunk)}, key=lambda p: (-closeness(p), p))[:3]
FINAL("Closest to the question:\\n\\n" + "\\n\\n".join(f"“{p}”" for p in best))
"""


def search_alone(task: Task) -> Generator[str, str, None]:
    """Without sub-calls (``max_depth=0``), the passages that share most with the question are shown."""
    yield cell(
        f"{_prepare(task, SMALL_CHUNK_CHARS)}\n{PASSAGES_OF}\n{SHOW_CLOSEST}",
        "There are no sub-calls at this depth, so I search for the question's words.",
    )
