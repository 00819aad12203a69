"""The answers of a loopback provider without a script: a summary of the conversation in the request.

An answer names the requested model, counts the turns of the request, and quotes the first question, the last answer and
the instructions, so that a person sees context move from one provider to the next. The same request always gets the
same answer.
"""

from dhenara_async.testing.script import Answer, SeenRequest

_STORY = (
    "Pico was a small robot who swept a painter's studio, and one night it picked up a brush to see what the fuss was "
    "about.",
    "Its first lines were crooked, so Pico painted the same window every evening until the light in it looked warm.",
    "One morning the painter found the window on the wall, asked who had made it, and handed Pico a brush of its own.",
    "From then on two signatures stood under every picture, and one of them was written in very steady capitals.",
)
_QUOTE = 60


def tell(seen: SeenRequest) -> Answer:
    """Build a short answer that describes the conversation in the request.

    Args:
        seen: The request.
    """
    questions = [text for role, text in seen.turns if role == "user"]
    answers = [text for role, text in seen.turns if role == "assistant"]
    sentences = [_opening(questions, len(answers)), _signed(seen.model, len(answers))]
    if answers:
        sentences.append(f"You began with {_quoted(questions[0])} and the last answer was {_quoted(answers[-1])}.")
    elif questions:
        sentences.append(f"You asked {_quoted(questions[0])}.")
    if seen.system:
        sentences.append(f"The instruction in force is {_quoted(seen.system)}.")
    return Answer(text=" ".join(sentences))


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
