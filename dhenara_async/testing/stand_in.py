"""The answers of a loopback provider without a script: the requested object or tool call, else a summary of the
conversation in the request.

An answer names the requested model, counts the turns of the request, and quotes the first question, the last answer and
the instructions, so that a person sees context move from one provider to the next. The same request always gets the
same answer.
"""

import orjson

from dhenara_async.testing.demands import demands_of
from dhenara_async.testing.script import Answer, ScriptedToolCall, SeenRequest
from dhenara_async.tools.samples import chosen, sample, sample_arguments

_STORY = (
    "Pico was a small robot who swept a painter's studio, and one night it picked up a brush to see what the fuss was "
    "about.",
    "Its first lines were crooked, so Pico painted the same window every evening until the light in it looked warm.",
    "One morning the painter found the window on the wall, asked who had made it, and handed Pico a brush of its own.",
    "From then on two signatures stood under every picture, and one of them was written in very steady capitals.",
)
_QUOTE = 60


def tell(seen: SeenRequest) -> Answer:
    """Build the answer to a request.

    A request with a schema gets an object that fits it. A request with tools gets a call, if it forces one or if the
    question has a word of a tool's name; not after the result of a call. Any other gets a short text that describes its
    conversation.

    Args:
        seen: The request.
    """
    demands = demands_of(seen)
    question = seen.turns[-1][1] if seen.turns else ""
    called = None if demands.has_results else chosen(demands.tools, demands.choice, question)
    if called is not None:
        arguments = orjson.dumps(sample_arguments(called)).decode()
        return Answer(tool_calls=(ScriptedToolCall(f"call_{len(seen.turns)}", called.name, arguments),))
    if demands.schema is not None:
        return Answer(text=orjson.dumps(sample(demands.schema)).decode())
    return Answer(text=_summary(seen))


def _summary(seen: SeenRequest) -> str:
    questions = [text for role, text in seen.turns if role == "user"]
    answers = [text for role, text in seen.turns if role == "assistant"]
    sentences = [_opening(questions, len(answers)), _signed(seen.model, len(answers))]
    if answers:
        sentences.append(f"You began with {_quoted(questions[0])} and the last answer was {_quoted(answers[-1])}.")
    elif questions:
        sentences.append(f"You asked {_quoted(questions[0])}.")
    if seen.system:
        sentences.append(f"The instruction in force is {_quoted(seen.system)}.")
    return " ".join(sentences)


def _opening(questions: list[str], answered: int) -> str:
    first = questions[0].lower() if questions else ""
    if "robot" in first and "paint" in first:
        return _STORY[min(answered, len(_STORY) - 1)]
    return f"Here is answer number {answered + 1}."


def _signed(model: str, answered: int) -> str:
    context = {0: "no earlier turn", 1: "1 earlier turn"}.get(answered, f"{answered} earlier turns")
    return f"(A loopback stand-in for {model} speaks here, not a model; it was sent {context}.)"


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= _QUOTE:
        return f"“{line.rstrip('.')}”"
    return f"“{line[:_QUOTE].rsplit(' ', 1)[0]} …”"
