"""A single question is formatted by a shortcut, with the result of the full formatter."""

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
def test_the_shortcut_for_one_message_formats_as_the_full_formatter_does(target: str, question: Message) -> None:
    endpoint = TARGETS[target]
    short = PromptFormatter.format_messages([question], endpoint)
    long = PromptFormatter.format_conversation((), endpoint, asked=[question])
    assert (short.messages, short.report, short.prefix, short.stubs) == (
        long.messages,
        long.report,
        long.prefix,
        long.stubs,
    )
