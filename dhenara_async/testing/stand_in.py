"""The answers of a loopback provider without a script: they report how much of the conversation it received.

It names the model it stands in for, counts the turns it was sent, and quotes the first question, the last answer and
the instruction, so that a person sees context travel from one provider to the next. Always the same words for the same
request.
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
    sentences = [_opening(questions, len(answers)), _who(seen.model, len(answers))]
    if answers:
        sentences.append(f"You began with {_quoted(questions[0])} and the last answer was {_quoted(answers[-1])}.")
    elif questions:
        sentences.append(f"You asked {_quoted(questions[0])}.")
    if seen.system:
        sentences.append(f"The instruction in force is {_quoted(seen.system)}.")
    return Answer(text=" ".join(sentences))


def _opening(questions: list[str], told: int) -> str:
    first = questions[0].lower() if questions else ""
    if "robot" in first and "paint" in first:
        return _STORY[min(told, len(_STORY) - 1)]
    return f"Here is answer number {told + 1}."


def _who(model: str, told: int) -> str:
    context = {0: "no earlier turn", 1: "1 earlier turn"}.get(told, f"{told} earlier turns")
    return f"(A loopback stand-in for {model} speaks here, not a model; it was sent {context}.)"


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= _QUOTE:
        return f"“{line.rstrip('.')}”"
    return f"“{line[:_QUOTE].rsplit(' ', 1)[0]} …”"
