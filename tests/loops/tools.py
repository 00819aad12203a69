"""Tools, scripts and endpoints that the tests of tool loops share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from dhenara_async import AIModel, AIModelAPIProviderEnum, AIModelEndpoint, Dialect
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall, SeenRequest

SPEAKERS = {
    Dialect.ANTHROPIC_MESSAGES: (AIModelAPIProviderEnum.ANTHROPIC, "claude-sonnet-5-5"),
    Dialect.OPENAI_RESPONSES: (AIModelAPIProviderEnum.OPEN_AI, "gpt-6.2-sol"),
    Dialect.OPENAI_CHAT: (AIModelAPIProviderEnum.OPEN_AI, "gpt-4o-mini"),
    Dialect.GEMINI: (AIModelAPIProviderEnum.GOOGLE_AI, "gemini-3.8-flash"),
}


def endpoint_of(server: ProviderServer, dialect: Dialect) -> AIModelEndpoint:
    provider, model = SPEAKERS[dialect]
    return AIModelEndpoint(api=server.api(provider, dialect=dialect), ai_model=AIModel(model_name=model))


def call(number: int, name: str, arguments: str = "{}") -> ScriptedToolCall:
    return ScriptedToolCall(f"call_{number}", name, arguments)


def paint_step(number: int, *calls: ScriptedToolCall) -> Answer:
    """The answer of step ``number``: some words and calls."""
    return Answer(text=f"Step {number}.", tool_calls=calls or (call(number, "paint", f'{{"number": {number}}}'),))


def steps(number: int, last: Answer | None = None) -> list[Answer]:
    """A script of ``number`` answers with a call each, and a last one without."""
    return [*(paint_step(at) for at in range(1, number + 1)), last or Answer(text="All is painted.")]


def answered(seen: SeenRequest) -> int:
    """The number of answers that a request has in its history."""
    return sum(role == "assistant" for role, _ in seen.turns)


@dataclass(slots=True)
class Studio:
    """Tools that count how often they ran.

    Attributes:
        painted: The numbers that ``paint`` was called with.
        cancelled: How many calls of ``hang`` were cancelled.
        hanging: Set when ``hang`` runs.
    """

    painted: list[int] = field(default_factory=list[int])
    cancelled: int = 0
    hanging: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tools(self) -> tuple[Callable[..., object], ...]:
        """All tools."""
        return self.paint, self.fail, self.hang

    def paint(self, number: int) -> str:
        """Paint a picture.

        Args:
            number: The number of the picture.
        """
        self.painted.append(number)
        return f"picture {number} is painted"

    def fail(self) -> str:
        """Fail."""
        raise ValueError("no paint is left")

    async def hang(self) -> str:
        """Never answer."""
        self.hanging.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "never"
