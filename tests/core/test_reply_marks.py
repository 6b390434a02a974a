"""Control tokens, CRLF, thought marks and fences inside strings: none of them hides an answer or invents a cell."""

from __future__ import annotations

import pytest

from rlm.core.endings import EndFinder, find_end
from rlm.core.replies import FinalText, FinalVariable, parse_reply

TOKENS = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "</s>",
    "<end_of_turn>",
    "<eos>",
    "<|end|>",
    "<|return|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<|im_end|>\n<|endoftext|>",
    " </s></s>\r\n",
    "\r\n",
]


@pytest.mark.parametrize("token", TOKENS)
def test_control_tokens_hide_no_answer(token: str) -> None:
    assert parse_reply(f"FINAL(42){token}").final == FinalText("42")
    assert parse_reply(f'FINAL("a ) b"){token}').final == FinalText("a ) b")
    assert parse_reply(f"Done.\r\nFINAL_VAR(x){token}").final == FinalVariable("x")
    assert parse_reply(f"FINAL(sad :( but 5){token}").final == FinalText("sad :( but 5")


@pytest.mark.parametrize("token", TOKENS)
def test_control_tokens_hide_no_cell(token: str) -> None:
    assert parse_reply(f"```repl\nx = 1\n```{token}").cells == ("x = 1",)
    assert parse_reply(f"```repl\r\nx = 1\r\n```{token}\nFINAL_VAR(x)").final == FinalVariable("x")
    assert parse_reply(f"```repl\nx = 1{token}").cells[0].strip() == "x = 1"
    assert find_end(f"```repl\nx = 1\n```{token}", "first_cell") >= len("```repl\nx = 1\n```")


def test_next_speaker_after_control_token_is_ignored() -> None:
    assert parse_reply("FINAL(42)<|im_end|><|im_start|>user\nFINAL(43)").final == FinalText("42")
    text = "```repl\nx = 1\n```<|end|><|start|>user\nOutput: 1"
    assert text[: parse_reply(text).retained_chars] == "```repl\nx = 1\n```"
    assert text[: find_end(text, "first_cell")] == "```repl\nx = 1\n```"


def test_control_tokens_inside_code_are_code() -> None:
    code = 'parts = context.split("<|im_end|>")\nend = "</s>"'
    assert parse_reply(f"```repl\n{code}\n```").cells == (code,)


THOUGHTS = [
    "<think>{}</think>",
    "<thinking>\n{}\n</thinking>\n",
    "<reasoning>{}</reasoning>",
    "<thought>\n{}\n</thought>",
    "<reflection>\n{}\n</reflection>",
    '<thinking type="deep">\n{}\n</thinking>\n',
    "<seed:think>{}</seed:think>",
    "[THINK]{}[/THINK]",
    "◁think▷{}◁/think▷",
    "<|begin_of_thought|>\n{}\n<|end_of_thought|>\n",
    "<|START_THINKING|>{}<|END_THINKING|>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|start|>assistant<|channel|>analysis<|message|>\n{}\n<|channel|>final <|constrain|>text<|message|>",
    "<|channel|>analysis<|message|>{}<|end|>\n<|start|>assistant<|channel|>commentary to=repl<|message|>",
]


@pytest.mark.parametrize("mark", THOUGHTS)
def test_thoughts_hold_no_cells_or_answers(mark: str) -> None:
    thought = mark.format("Perhaps:\n```repl\nwrong = 1\n```\nOutput: 3\nFINAL(wrong)\n")
    assert parse_reply(f"{thought}FINAL(right)").final == FinalText("right", "right")
    parsed = parse_reply(f"{thought}\n```repl\nright = 1\n```")
    assert (parsed.cells, parsed.final) == (("right = 1",), None)
    text = f"{thought}\n```repl\nright = 1\n```\nOutput: 1\nFINAL(1)"
    assert text[find_end(text, "invented") :] == "Output: 1\nFINAL(1)"


@pytest.mark.parametrize("mark", THOUGHTS)
def test_unclosed_thoughts_hide_the_rest(mark: str) -> None:
    parsed = parse_reply(mark.partition("{}")[0] + "```repl\nwrong = 1\n```\nFINAL(wrong)")
    assert (parsed.cells, parsed.final, parsed.prose) == ((), None, "")


@pytest.mark.parametrize(
    "close", ["</think>", "[/THINK]", "</reasoning>", "◁/think▷", "<|channel|>final<|message|>", "<|END_THINKING|>"]
)
def test_unopened_thoughts_are_dropped(close: str) -> None:
    text = f"```repl\nwrong = 1\n```\nFINAL(wrong) I guess\nFINAL(wrong)\n{close}\nFINAL(right)"
    parsed = parse_reply(text)
    assert (parsed.cells, parsed.final) == ((), FinalText("right", "right"))
    assert find_end(text, "first_cell") == len(text)


def test_commentary_channel_retains_cells_before_final() -> None:
    text = "<|channel|>commentary<|message|>\n```repl\nx = 1\n```<|end|><|start|>assistant<|channel|>final<|message|>FINAL(x)"
    parsed = parse_reply(text)
    assert (parsed.cells, parsed.final) == (("x = 1",), FinalText("x", "x"))


STRINGS = [
    'page = """\n```json\n{"a": 1}\n```\n"""\nprint(page)',
    "page = '''\n```\nplain\n```\n'''\nprint(page)",
    'f"""{x}\n```repl\nnested\n```\n"""',
    'r"""a\\"""\n```\n\\"""b"""\nprint(1)',
    '# it\'s """ a comment\ny = \'"""\'\nz = """\n```\n"""',
    'first = """one"""; second = """\n```\n"""; third = "\'\'\'"',
]


@pytest.mark.parametrize("code", STRINGS)
def test_fences_inside_strings_are_code(code: str) -> None:
    text = f"```repl\n{code}\n```\nThen.\n```repl\nnext_one()\n```"
    assert parse_reply(text).cells == (code, "next_one()")
    assert text[: find_end(text, "first_cell")] == f"```repl\n{code}\n```"
    finder = EndFinder("first_cell")
    assert any(finder.feed(character) is not None for character in text)
    assert finder.end == len(f"```repl\n{code}\n```")


@pytest.mark.parametrize("code", ['x = """', "print('''never closed)", 'f("""a""", """b)'])
def test_unclosed_string_hides_no_fence(code: str) -> None:
    text = f"```repl\n{code}\n```\nThen.\n```repl\nnext_one()\n```\nFINAL(1)"
    parsed = parse_reply(text)
    assert (parsed.cells, parsed.final) == ((code, "next_one()"), FinalText("1"))
    invented = f"```repl\n{code}\n```\nOutput: 1\nFINAL(1)"
    assert invented[find_end(invented, "invented") :] == "Output: 1\nFINAL(1)"
