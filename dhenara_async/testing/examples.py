"""Answers to the README's questions, for readers who run its examples without a key.

``python -m dhenara_async.testing`` serves them, so a reader sees the output that the README shows. Every other question
gets the answer of a ``ProviderServer`` without a script.
"""

from collections.abc import Mapping

from dhenara_async.testing.script import Answer, ScriptedError, ScriptedToolCall, ScriptStep, SeenRequest
from dhenara_async.testing.stand_in import tell

_NO_WAIT = {"retry-after": "0"}
_PARIS = ScriptedToolCall(call_id="call_1", name="weather", arguments='{"city":"Paris"}')
_BUSY = ScriptedError(503, "Too busy.", headers=_NO_WAIT)
_NO_SUCH_MODEL = ScriptedError(404, "There is no model gpt-typo.")

_ANSWERS: Mapping[str, ScriptStep] = {
    "Tell a short story about a robot.": Answer(
        text="A robot found a brush and painted the sky.", reasoning="What would a robot paint?"
    ),
    "Now give it a twist.": Answer(text="The sky painted back."),
    "Now give it a happy end.": Answer(text="They painted each other."),
    "What is a robot, in one sentence?": Answer(text="A machine that acts by itself."),
    "And in one word?": Answer(text="Helper."),
    "Count to three.": Answer(text="One, two, three."),
    "Is 91 a prime number?": Answer(text="No: 7 times 13.", reasoning="91 is 7 times 13."),
    "What is the weather in Paris?": Answer(tool_calls=(_PARIS,)),
    "What does a shirt cost?": Answer(tool_calls=(ScriptedToolCall(call_id="call_2", name="shop__prices"),)),
    "A shirt is 12 EUR.": Answer(text="It costs 12 EUR."),  # after the tool's result
    "Sunny in Paris.": Answer(text="It is sunny in Paris."),  # after the tool's result
    "Who wrote the first program?": Answer(text='{"name":"Ada","born":1815}'),
    "When did they meet?": Answer(text="In 1833."),
    "Who is there?": Answer(text="GPT is here."),
    "What is it?": Answer(text="A cat."),
    "Why?": Answer(text="Because."),
    "Is this expensive?": Answer(text="No."),
    "Hello": Answer(text="Hello!"),
}


class ExampleAnswers:
    """A script for ``ProviderServer``: the README's answers.

    The provider is busy every second time that it is asked "Are you there?", so that a retry can be seen, and Anthropic
    is always busy when it is asked "Who is there?", so that a fail-over can be seen.
    """

    def __init__(self) -> None:
        self._attempts = 0

    def __call__(self, seen: SeenRequest) -> ScriptStep:
        """Return the answer to the user's last line."""
        lines = seen.turns[-1][1].splitlines() if seen.turns else []
        question = lines[-1] if lines else ""
        if seen.model == "gpt-typo":
            return _NO_SUCH_MODEL
        if question == "Are you there?":
            self._attempts += 1
            return _BUSY if self._attempts % 2 else Answer(text="Yes.")
        if question == "Who is there?" and seen.provider == "anthropic":
            return _BUSY
        return _ANSWERS.get(question) or tell(seen)
