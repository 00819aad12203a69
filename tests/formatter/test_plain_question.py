"""A lone question takes a short way past the fold, and must come out as by the long one."""

import pytest

from benchmarks.history import TARGETS
from dhenara_async import Message, PromptFormatter, TextPart

QUESTIONS = {
    "one text": Message.user("Why?"),
    "several": Message.user("Why?", "And why now?"),
    "with a blank among them": Message.user("Why?", " "),
    "nothing but a blank": Message.user(" "),
    "nothing": Message(role=Message.user("x").role, parts=()),
    "not ASCII": Message.user("Warum, 🤖?"),
    "a system's": Message.system("Be brief."),
    "an answer's": Message.assistant(TextPart(text="Because.")),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_both_ways_are_the_same(target: str, question: Message) -> None:
    endpoint = TARGETS[target]
    short = PromptFormatter.format_messages([question], endpoint)
    long = PromptFormatter.format_conversation((), endpoint, asked=[question])
    assert (short.messages, short.report, short.prefix, short.stubs) == (
        long.messages,
        long.report,
        long.prefix,
        long.stubs,
    )
