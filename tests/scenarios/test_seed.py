"""The seed's program runs to its end, whatever providers its dice choose."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from dhenara_async.models.anthropic import Claude35Haiku, Claude37Sonnet
from dhenara_async.models.google import Gemini20Flash, Gemini20FlashLite
from dhenara_async.models.openai import GPT4oMini, O3Mini
from dhenara_async.testing import Answer, ProviderServer, SeenRequest

_PROGRAM = Path(__file__).parents[1] / "seed_program.py"
_PROVIDERS = {
    model.model_name: str(model.provider)
    for model in (Claude37Sonnet, Claude35Haiku, O3Mini, GPT4oMini, Gemini20Flash, Gemini20FlashLite)
}
_SEGMENTS = {"google_ai": "google"}
_QUESTIONS = (
    "Tell me a short story about a robot learning to paint.",
    "Continue the story but add a twist where the robot discovers something unexpected.",
    "Conclude the story with an inspiring ending.",
)
_LEADERS = (
    "Be creative and engaging.",
    "Build upon the previous story seamlessly.",
    "Bring the story to a satisfying conclusion.",
)


def _answer(seen: SeenRequest) -> Answer:
    return Answer(text=f"answer {len(seen.turns) // 2 + 1} of {seen.model} \N{ROBOT FACE}")


async def _run(server: ProviderServer) -> tuple[int | None, str, str]:
    """The program in a process of its own, without this machine's proxies, every warning an error."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environment |= server.environment() | {"PYTHONUTF8": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        _PROGRAM,
        env=environment,
        cwd=_PROGRAM.parent.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), timeout=60)
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize("run", [1, 2, 3])
async def test_seed_program_runs_to_its_end(run: int) -> None:
    """Three times, since the program throws its dice itself."""
    async with ProviderServer(_answer) as server:
        code, output, errors = await _run(server)
        requests = list(server.requests)
    assert (code, errors) == (0, "")
    assert [(seen.status, seen.error) for seen in requests] == [(200, None)] * 3
    models = [seen.model for seen in requests]
    turns = re.findall(r"Turn (\d) with (\S+) from (\S+)\n", output)
    assert turns == [(str(number), model, _PROVIDERS[model]) for number, model in enumerate(models, 1)]
    assert [seen.provider for seen in requests] == [
        _SEGMENTS.get(_PROVIDERS[model], _PROVIDERS[model]) for model in models
    ]
    answers = [f"answer {number} of {model} \N{ROBOT FACE}" for number, model in enumerate(models, 1)]
    assert re.findall(r"^User: (.*)$", output, re.MULTILINE) == list(_QUESTIONS)
    assert re.findall(r"Model Response:\n (.*)\n", output) == answers
    assert [seen.system for seen in requests] == list(_LEADERS)
    said = [
        turn for told in zip(_QUESTIONS, answers, strict=True) for turn in zip(("user", "assistant"), told, strict=True)
    ][:-1]
    assert [list(seen.turns) for seen in requests] == [said[:1], said[:3], said]
    assert not any(seen.stream for seen in requests)


async def test_it_tells_when_the_provider_refuses() -> None:
    """The program does not catch anything, so a wrong key ends it with our error in words, and without the key."""
    async with ProviderServer(api_key="the right one") as server:
        code, _output, errors = await _run(server)
    assert code == 1
    assert "AuthenticationError" in errors
    assert not re.search(r"your_\w+_api_key", errors)
