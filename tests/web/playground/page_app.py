"""The page on loopback: three models and a plan, answered by stand-ins whose words depend on the question."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from dhenara_async import AIModel, AIModelCallConfig, AIModelEndpoint, ConversationManager, Failover, ToolPolicy
from dhenara_async.messages.messages import Citation
from dhenara_async.models.groq import GPTOSS120B
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError, ScriptedToolCall, SeenRequest
from dhenara_async.web.starlette import playground
from tests.web.servers import served

HOSTILE = """# Heading <img src=x onerror=alert(1)>

<script>window.ran = true</script>

[a link](javascript:alert(1)) and [another](https://example.com/fine) and ![beacon](https://example.com/beacon.png)

<a href="data:text/html,hi">data</a> <svg onload="alert(1)"></svg>

| a | b |
|---|---|
| <b onclick="alert(1)">1</b> | 2 |

`<iframe src=//example.com>`
"""
RICH = """## A small tour

A **short** paragraph with `code`, a [link](https://example.com/) and a list:

1. first
2. second
   - nested

> A quotation that says little.

```python
async def greet(name: str) -> str:
    return f"hello {name}"
```

| model | words | seconds |
|---|--:|--:|
| one | 120 | 1.2 |
| two | 98 | 0.8 |

That is all.
"""
Script = Callable[[SeenRequest], Answer | ScriptedError | Fault]
ROWS = 1_200
TABLE = "| row | words |\n|---|---|\n" + "".join(f"| {row} | **some** `words` of it |\n" for row in range(ROWS))
SOURCE = Citation(url="https://example.com/robots-that-paint", title="Robots that paint", cited_text="They do.")


def stand_in(seen: SeenRequest) -> Answer | ScriptedError | Fault:
    """Answer by the words of the last question."""
    question = seen.turns[-1][1] if seen.turns else ""
    if "broken" in seen.model:
        return ScriptedError(status=401, message="the key is wrong")
    if "weather in two" in question:
        places = enumerate(("Bergen", "Oslo"))
        calls = (ScriptedToolCall(f"call-{place}", "weather", f'{{"city":"{city}"}}') for place, city in places)
        return Answer("I look.", tool_calls=tuple(calls))
    if "weather" in question:
        return Answer("I look.", tool_calls=(ScriptedToolCall("call-1", "weather", '{"city":"Bergen"}'),))
    if "hostile" in question:
        return Answer(HOSTILE)
    if "deep" in question:
        return Answer("> " * 4000 + "bottom", pieces=("> " * 4000, "bottom"))
    if "table" in question:
        text = TABLE
        return Answer(text, pieces=tuple(text[start : start + 1_500] for start in range(0, len(text), 1_500)))
    if "megabytes" in question:
        text = "A line of a very long answer.\n" * 350_000
        size = 500_000
        return Answer(text, pieces=tuple(text[start : start + size] for start in range(0, len(text), size)))
    if "long" in question:
        text = "\n\n".join(f"Paragraph {number} with **some** words and `code`." for number in range(3_000))
        size = 2_000
        return Answer(text, pieces=tuple(text[start : start + size] for start in range(0, len(text), size)))
    if "wait" in question:
        return Fault(answer=Answer("Words before a pause that only the user can end."), stall=6)
    if "seconds" in question:  # 150 tokens: at 50 tokens a second, three seconds
        return Answer("\n\n".join([RICH] * 2))
    if "rich" in question:
        return Answer(RICH, reasoning="The reader wants to see everything.", citations=(SOURCE,))
    return Answer(
        f"An answer by {seen.model} after {len(seen.turns)} messages.",
        reasoning="A thought that a hop drops.",
        citations=(SOURCE,),
    )


def held(gate: asyncio.Event, events: int, words: str = "") -> Script:
    """Answer like ``stand_in``, and hold answers that have some words until the gate opens.

    Args:
        gate: The gate.
        events: Events of the provider before the pause.
        words: Words of the answers that are held; empty = all are.
    """

    def script(seen: SeenRequest) -> Answer | ScriptedError | Fault:
        step = stand_in(seen)
        if isinstance(step, Answer) and words in step.text:
            return Fault(answer=step, stall=events, until=gate)
        return step

    return script


async def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It rains in {city}."


def _me(request: Request) -> str:
    return "me"


@dataclass(frozen=True, slots=True)
class Stand:
    """A running page.

    Attributes:
        url: Where the page is, with a slash at the end.
        server: The stand-ins behind it.
        manager: Whose conversations it shows.
    """

    url: str
    server: ProviderServer
    manager: ConversationManager


def endpoints(server: ProviderServer) -> dict[str, AIModelEndpoint | Failover]:
    """The models of the page."""
    api = server.api
    claude = AIModelEndpoint(api=api("anthropic"), ai_model=AIModel(model_name="claude-sonnet-5-5"))
    gpt = AIModelEndpoint(api=api("openai"), ai_model=AIModel(model_name="gpt-6-luna"))
    gemini = AIModelEndpoint(api=api("google_ai"), ai_model=AIModel(model_name="gemini-3.8-flash"))
    broken = AIModelEndpoint(api=api("openai"), ai_model=AIModel(model_name="broken-model"))
    blind = AIModelEndpoint(api=api("groq"), ai_model=GPTOSS120B)
    plan = Failover([broken, claude])
    return {"claude": claude, "gpt": gpt, "gemini": gemini, "blind": blind, "broken": broken, "safe": plan}


@asynccontextmanager
async def page_stand(
    database: Path | str,
    *,
    script: Script = stand_in,
    delay: float = 0.0,
    path: str = "/play",
    tools: ToolPolicy | None = None,
) -> AsyncGenerator[Stand]:
    """Serve the page below ``path``, with a tool that tells the weather if ``tools`` says how it is run."""
    config = None if tools is None else AIModelCallConfig(tools=[weather])
    async with ProviderServer(script, delay=delay) as server, ConversationManager(store=str(database)) as manager:
        routes = playground(manager, endpoints(server), owner=_me, config=config, run_tools=tools, details=True)
        app = Starlette(routes=[Mount(path, routes=routes)])
        failure: Exception | None = None
        async with served(app) as url:
            try:
                yield Stand(f"{url}{path}/", server, manager)
            except Exception as error:  # noqa: BLE001 - raised below: a server that is cancelled leaves its connections open
                failure = error
        if failure is not None:
            raise failure
