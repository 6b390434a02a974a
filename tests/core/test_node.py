"""The node's table: every pair of state and event, and the ways a conversation can go."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from rlm.core.actions import (
    Action,
    Ask,
    AskFailed,
    Compacted,
    Execute,
    Executed,
    Finish,
    LimitMet,
    NodeEvent,
    Read,
    Replied,
    Started,
    ValueMissing,
    ValueRead,
)
from rlm.core.cells import Answer, Cell, CellResult, Variable
from rlm.core.errors import (
    EmptyReplyError,
    InvalidTransition,
    ModelTimeoutError,
    NoAnswerError,
    PromptTooLongError,
    TruncatedReplyError,
)
from rlm.core.messages import Message
from rlm.core.node import MAX_STUMBLES, TABLE, Node, step
from rlm.core.node_spec import NodeSpec, State

SPEC = NodeSpec("How many?", "a str of 5 characters", "You answer.", max_turns=3, observation_chars=1_000)
OK = CellResult("ok", stdout="seen\n")


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


def play(*events: NodeEvent, spec: NodeSpec = SPEC) -> tuple[Node, Action]:
    node, action = step(Node(spec), Started())
    for event in events:
        node, action = step(node, event)
    return node, action


def finish(*events: NodeEvent, spec: NodeSpec = SPEC) -> Finish:
    action = play(*events, spec=spec)[1]
    assert isinstance(action, Finish)
    return action


def test_every_pair_is_in_the_table_or_refused() -> None:
    events: list[NodeEvent] = [
        Started(),
        Replied("FINAL(1)"),
        AskFailed(ModelTimeoutError("slow")),
        LimitMet("calls"),
        Executed(OK),
        ValueRead(1),
        ValueMissing(),
        Compacted("so far"),
    ]
    asked = (Message("system", "s"), Message("user", "q"))
    for state, event in product(State, events):
        node = replace(Node(SPEC), state=state, messages=asked, pending=(Cell(1, 1, "x"),), turn=1)
        if (state, type(event)) in TABLE:
            step(node, event)
        else:
            with pytest.raises(InvalidTransition):
                step(node, event)


def test_first_turn_shows_question_and_context() -> None:
    _, action = play()
    assert isinstance(action, Ask)
    assert [m.role for m in action.messages] == ["system", "user"]
    assert "How many?" in action.messages[1].text
    assert "a str of 5 characters" in action.messages[1].text


def test_model_sees_output_of_ordered_cells() -> None:
    node, action = play(Replied(cell("a") + "\n" + cell("b")))
    assert action == Execute(Cell(1, 1, "a"), None)
    node, action = step(node, Executed(OK))
    assert action == Execute(Cell(1, 2, "b"), None)
    node, action = step(node, Executed(CellResult("ok", echo="42")))
    assert isinstance(action, Ask)
    assert "seen" in action.messages[-1].text
    assert "42" in action.messages[-1].text


def test_cells_after_failed_one_do_not_run() -> None:
    _, action = play(Replied(cell("a") + "\n" + cell("b")), Executed(CellResult("error", error="KeyError: 'x'")))
    assert isinstance(action, Ask)
    assert "KeyError: 'x'" in action.messages[-1].text
    assert "not run" in action.messages[-1].text
    assert "1.2" in action.messages[-1].text


def test_conversations_only_grow_at_their_end() -> None:
    node, action = step(Node(SPEC), Started())
    seen: tuple[Message, ...] = ()
    for reply in (cell("a"), "hm", cell("b"), "FINAL(1)"):
        assert isinstance(action, Ask)
        assert action.messages[: len(seen)] == seen
        seen = action.messages
        node, action = step(node, Replied(reply))
        if isinstance(action, Execute):
            node, action = step(node, Executed(OK))


def test_answer_from_code_wins_and_ends_the_turn() -> None:
    done = finish(Replied(cell("FINAL(7)") + cell("b") + "\nFINAL(8)"), Executed(CellResult("ok", answer=Answer(7))))
    assert (done.answer, done.error, done.limit) == (7, None, None)


def test_answer_from_code_counts_despite_failure() -> None:
    done = finish(Replied(cell("x")), Executed(CellResult("error", error="ValueError", answer=Answer("a"))))
    assert done.answer == "a"


def test_text_answer_counts_after_successful_cells() -> None:
    assert finish(Replied(cell("a") + "\nFINAL(done)"), Executed(OK), ValueMissing()).answer == "done"


def test_text_answer_beside_failed_cell_is_refused() -> None:
    _, action = play(Replied(cell("a") + "\nFINAL(done)"), Executed(CellResult("error", error="NameError: y")))
    assert isinstance(action, Ask)
    assert "not accepted" in action.messages[-1].text


def test_final_var_reads_the_variable() -> None:
    _, action = play(Replied("FINAL_VAR(rows)"))
    assert action == Read("rows")
    assert finish(Replied("FINAL_VAR(rows)"), ValueRead([1, 2])).answer == [1, 2]


def test_unknown_final_var_is_shown_as_error() -> None:
    variables = (Variable("rows", "list", 3),)
    _, action = play(
        Replied(cell("rows = [1]") + "\nFINAL_VAR(row)"),
        Executed(CellResult("ok", variables=variables)),
        ValueMissing(),
    )
    assert isinstance(action, Ask)
    assert "no variable has this name" in action.messages[-1].text
    assert "rows (list, 3)" in action.messages[-1].text


def test_final_of_bare_name_reads_variable() -> None:
    assert play(Replied("FINAL(total)"))[1] == Read("total")
    assert finish(Replied("FINAL(total)"), ValueRead(12)).answer == 12
    assert finish(Replied("FINAL(yes)"), ValueMissing()).answer == "yes"


def test_used_up_turns_lead_to_last_turn() -> None:
    node, action = play(*[event for _ in range(3) for event in (Replied(cell("a")), Executed(OK))])
    assert isinstance(action, Ask)
    assert action.last
    assert "limit of iterations" in action.messages[-1].text
    partial = step(node, Replied("FINAL(best guess)"))[1]
    assert partial == Finish("best guess", "iterations", None)


def test_last_turn_refuses_sub_calls_of_code() -> None:
    events = [event for _ in range(3) for event in (Replied(cell("a")), Executed(OK))]
    node, action = play(*events, Replied(cell("FINAL(len(rows))")))
    assert action == Execute(Cell(4, 1, "FINAL(len(rows))"), "iterations")
    assert step(node, Executed(CellResult("ok", answer=Answer(3))))[1] == Finish(3, "iterations", None)


def test_plain_text_of_last_turn_is_answer() -> None:
    events = [event for _ in range(3) for event in (Replied(cell("a")), Executed(OK))]
    assert finish(*events, Replied("It is the whale.")).answer == "It is the whale."
    without = finish(*events, Replied(cell("print(1)")), Executed(OK))
    assert isinstance(without.error, NoAnswerError)
    assert without.answer is None


def test_limit_between_turns_gives_one_last_turn() -> None:
    node, action = play(Replied(cell("a")), Executed(OK), LimitMet("calls"))
    assert isinstance(action, Ask)
    assert (action.last, action.turn) == (True, 2)
    assert [m.role for m in action.messages] == ["system", "user", "assistant", "user"]
    assert "seen" in action.messages[-1].text
    assert "limit of calls" in action.messages[-1].text
    assert isinstance(step(node, LimitMet("calls"))[1], Finish)


def test_idle_replies_end_in_no_answer() -> None:
    spec = replace(SPEC, max_turns=20)
    _, action = play(Replied("I will think."), spec=spec)
    assert isinstance(action, Ask)
    assert "```repl" in action.messages[-1].text
    assert isinstance(finish(*[Replied("Hm.")] * MAX_STUMBLES, spec=spec).error, NoAnswerError)


def test_truncated_reply_is_forgiven_once() -> None:
    cut = AskFailed(TruncatedReplyError("cut", text="```repl\nx = "))
    _, action = play(cut)
    assert isinstance(action, Ask)
    assert action.messages[-2] == Message("assistant", "```repl\nx = ")
    assert "hit its token limit" in action.messages[-1].text
    assert isinstance(finish(cut, cut).error, TruncatedReplyError)


def test_empty_replies_are_answered_with_a_notice() -> None:
    empty = AskFailed(EmptyReplyError("the reply held reasoning alone"))
    spec = replace(SPEC, max_turns=10)
    _, action = play(empty, spec=spec)
    assert isinstance(action, Ask)
    assert [message.role for message in action.messages[-2:]] == ["assistant", "user"]
    assert "held no text" in action.messages[-1].text
    assert finish(empty, Replied("FINAL(7)"), spec=spec).answer == "7"


def test_empty_replies_in_a_row_end_the_node() -> None:
    error = EmptyReplyError("nothing")
    spec = replace(SPEC, max_turns=10)
    assert finish(*[AskFailed(error)] * MAX_STUMBLES, spec=spec).error is error


def test_empty_last_turn_ends_the_node() -> None:
    error = EmptyReplyError("nothing")
    assert finish(LimitMet("calls"), AskFailed(error)).error is error


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (CellResult("ok", queries=40, failed_queries=7, failure="RateLimitedError: slow\ndown"),
         "[7 of 40 sub-calls failed: RateLimitedError: slow down]"),
        (CellResult("ok", queries=1, failed_queries=1, failure="X: y"), "[1 of 1 sub-call failed: X: y]"),
    ],
)  # fmt: skip
def test_failed_subcalls_are_counted_for_the_model(result: CellResult, line: str) -> None:
    _, action = play(Replied(cell("a")), Executed(result))
    assert isinstance(action, Ask)
    assert line in action.messages[-1].text


def test_a_single_failure_with_traceback_is_not_repeated() -> None:
    result = CellResult("error", error="LLMQueryError: x", queries=1, failed_queries=1, failure="X: x")
    _, action = play(Replied(cell("a")), Executed(result))
    assert isinstance(action, Ask)
    assert "sub-call failed" not in action.messages[-1].text


def test_conversation_found_too_long_is_compacted() -> None:
    long = CellResult("ok", stdout="x" * 30_000)
    spec = replace(SPEC, max_turns=9, observation_chars=40_000)
    too_long = AskFailed(PromptTooLongError("context length exceeded"))
    turns: list[NodeEvent] = [Replied(cell("a")), Executed(long)] * 3
    before, _ = play(*turns, spec=spec)
    node, action = play(*turns, too_long, spec=spec)
    assert isinstance(action, Ask)
    assert (
        sum(len(message.text) for message in action.messages)
        < sum(len(message.text) for message in before.messages) / 2
    )
    assert node.spec.window_tokens > 0
    for _ in range(5):
        if isinstance(action, Ask):
            node, action = step(node, too_long)
    assert isinstance(action, Finish)
    assert isinstance(action.error, PromptTooLongError)


def test_short_conversation_found_too_long_ends_the_node() -> None:
    error = PromptTooLongError("context length exceeded")
    assert finish(AskFailed(error)).error is error


def test_other_model_failures_end_the_node() -> None:
    error = ModelTimeoutError("slow")
    assert finish(AskFailed(error)).error is error


def test_observations_cut_output_but_never_errors() -> None:
    result = CellResult("error", stdout="a" * 50_000, error="ValueError: 7", traceback="Traceback\nValueError: 7")
    _, action = play(Replied(cell("a")), Executed(result))
    assert isinstance(action, Ask)
    told = action.messages[-1].text
    assert "Traceback\nValueError: 7" in told
    assert "49,000 characters left out" in told
    assert len(told) < 1_400
