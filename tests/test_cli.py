"""The command line, as a person starts it: in a process of its own, without keys unless a test gives some.

With keys and base URLs that point at a ``ProviderServer``, the commands take it for the real providers.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import cast

import orjson
import pytest

from dhenara_async import ConversionReport, Usage, __version__
from dhenara_async.hosts.table import HOSTS
from dhenara_async.models.anthropic import Claude37Sonnet, ClaudeSonnet55
from dhenara_async.models.google import Gemini38Flash
from dhenara_async.models.openai import GPT6Luna
from dhenara_async.testing import Answer, ProviderServer, ScriptedError, SeenRequest

_ROOT = Path(__file__).resolve().parent.parent
_GUARD_SECONDS = 60  # only a hang takes this long
_MAKERS = ((ClaudeSonnet55, "anthropic"), (GPT6Luna, "openai"), (Gemini38Flash, "google_ai"))
_QUESTIONS = ("about a robot learning to paint", "add a twist", "Conclude the story")
_TELL_LEAKS = {"PYTHONWARNINGS": "always::ResourceWarning"}  # a socket left open adds a line to stderr
_KEYS = {"OPENAI_API_KEY": "key-in-environment"}
# A shell that starts its jobs in the background has them ignore Ctrl-C; what is tested is the one that does not.
_WITH_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from dhenara_async.__main__ import main; main()"
)


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    provider_variables = {name for host in HOSTS.values() for name in (*host.key_variables, *host.base_url_variables)}
    left_out = provider_variables | {"FORCE_COLOR", "COLUMNS", "NO_COLOR"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PYTHONIOENCODING": "utf-8", **(extra or {})}


def _run(
    *arguments: str, typed: str = "", environment: Mapping[str, str] | None = None, code: str | None = None
) -> subprocess.CompletedProcess[str]:
    start = ("-m", "dhenara_async") if code is None else ("-c", code)
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=_ROOT,
        env=_environment(environment),
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=_GUARD_SECONDS,
    )


async def _start(*arguments: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _WITH_CTRL_C,
        *arguments,
        cwd=_ROOT,
        env=_environment(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def _finish(process: asyncio.subprocess.Process, typed: str = "") -> tuple[str, str]:
    async with asyncio.timeout(_GUARD_SECONDS):
        out, err = await process.communicate(typed.encode())
    return out.decode(), err.decode()


async def _read_until(process: asyncio.subprocess.Process, text: bytes) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(_GUARD_SECONDS):
        return await process.stdout.readuntil(text)


def _events(output: str) -> dict[int, list[dict[str, object]]]:
    """The events of each turn."""
    lines = [cast("dict[str, object]", orjson.loads(line)) for line in output.splitlines()]
    return {cast("int", turn): list(events) for turn, events in groupby(lines, key=lambda line: line["turn"])}


def _check_grammar(events: list[dict[str, object]]) -> None:
    types = [event["type"] for event in events]
    assert (types[0], types[-1]) == ("stream_start", "stream_end")
    assert types.count("stream_start") == types.count("stream_end") == 1
    open_parts: set[object] = set()
    for event in events:
        match event["type"]:
            case "part_start":
                open_parts.add(event["part_id"])
            case "part_end":
                open_parts.remove(event["part_id"])
            case "text_delta":
                assert event["part_id"] in open_parts
            case _:
                pass
    assert not open_parts


# demo


def test_demo_tells_three_turns_by_three_providers() -> None:
    run = _run("demo", "--delay", "0")

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Loopback: no provider key in the environment")
    assert "\x1b" not in run.stdout
    headings = [line for line in run.stdout.splitlines() if line.startswith("Turn ")]
    for number, ((model, provider), question, heading) in enumerate(zip(_MAKERS, _QUESTIONS, headings, strict=True), 1):
        assert heading == f"Turn {number} of 3 · {model.model_name} · {provider} (stand-in)"
        assert question in run.stdout
    assert "it was sent 1 earlier turn." in run.stdout
    assert "it was sent 2 earlier turns." in run.stdout
    assert "The instruction in force is “Bring the story to a satisfying conclusion”" in run.stdout
    assert run.stdout.count("output tokens (reported)") == 3
    assert run.stdout.count("hop: the whole history was carried over") == 2


def test_demo_json_writes_nothing_but_events() -> None:
    run = _run("demo", "--json", "--delay", "0")

    assert run.returncode == 0
    assert run.stderr.startswith("Loopback:")
    turns = _events(run.stdout)
    assert list(turns) == [1, 2, 3]
    assert [events[0]["provider"] for events in turns.values()] == [provider for _model, provider in _MAKERS]
    for events in turns.values():
        _check_grammar(events)


def test_demo_plain_shows_the_same_answers() -> None:
    run = _run("demo", "--plain", "--delay", "0")

    assert (run.returncode, run.stderr) == (0, "")
    assert "it was sent 2 earlier turns." in run.stdout
    assert run.stdout.count("usage: ") == 3


def test_demo_asks_the_models_it_is_told_in_turn() -> None:
    run = _run("demo", "--json", "--delay", "0", "--models", "o3-mini, groq:llama3:8b")

    started = [(events[0]["provider"], events[0]["model"]) for events in _events(run.stdout).values()]
    assert started == [("openai", "o3-mini"), ("groq", "llama3:8b"), ("openai", "o3-mini")]


def test_demo_reports_what_became_of_each_history() -> None:
    run = _run("demo", "--report", "--delay", "0")

    assert (run.returncode, run.stderr) == (0, "")
    summaries = [line for line in run.stdout.splitlines() if line.startswith("report: ")]
    assert summaries == [
        "report: 1 of 1 parts went as they were (1 text)",
        "report: 2 of 4 parts went as they were (2 text)",
        "report: 3 of 7 parts went as they were (3 text)",
    ]
    rows = [tuple(re.split(r" {2,}", line.strip())) for line in run.stdout.splitlines() if " → " in line]
    (first, _), (second, _), (third, _) = _MAKERS
    hops = [(first, second), (first, third), (second, third)]
    assert [row[:4] for row in rows if row[0] == "reasoning"] == [
        ("reasoning", f"{origin.model_name} → {target.model_name}", "omitted", "reasoning_dropped")
        for origin, target in hops
    ]
    assert {row[3:] for row in rows if row[0] == "reasoning"} == {("reasoning_dropped", "foreign origin")}
    assert [row[2:4] for row in rows if row[0] == "text"] == [("downgraded", "citations_dropped")] * 3


def test_demo_report_as_json_is_a_line_behind_each_turn() -> None:
    run = _run("demo", "--report", "--json", "--delay", "0")

    assert run.returncode == 0
    turns = _events(run.stdout)
    assert list(turns) == [1, 2, 3]
    reports: list[ConversionReport] = []
    for *events, last in turns.values():
        _check_grammar(events)
        assert last["type"] == "report"
        reports.append(ConversionReport.model_validate(last["report"]))
    assert [len(report.entries) for report in reports] == [0, 2, 4]
    assert [report.counts() for report in reports[:2]] == [
        {"native": 1},
        {"native": 2, "downgraded": 1, "omitted": 1},
    ]


async def test_demo_asks_only_providers_it_has_keys_for() -> None:
    async with ProviderServer() as server:
        variables = {name: value for name, value in server.environment().items() if not name.startswith("OPENAI")}
        process = await _start("demo", environment=variables)
        out, err = await _finish(process)

    assert (process.returncode, err) == (0, "")
    assert [seen.provider for seen in server.requests] == ["anthropic", "google", "anthropic"]
    assert [seen.system for seen in server.requests][2] == "Bring the story to a satisfying conclusion."
    assert "oopback:" not in out
    assert not [value for name, value in variables.items() if name.endswith("KEY") and value in out]


async def test_demo_says_what_a_turn_cost_and_nothing_of_stand_ins() -> None:
    answer = Answer(text="Pico paints.", usage=Usage(input_tokens=1000, output_tokens=200))
    async with ProviderServer([answer] * 3) as server:
        process = await _start("demo", "--models", "openai:gpt-4o-mini", environment=server.environment())
        out, _err = await _finish(process)
    assert out.count("cost: $0.000270") == 3
    assert "cost:" not in _run("demo", "--delay", "0").stdout


async def test_demo_loopback_leaves_keys_alone() -> None:
    async with ProviderServer() as server:
        process = await _start("demo", "--loopback", "--delay", "0", environment=server.environment())
        out, _err = await _finish(process)

    assert process.returncode == 0
    assert out.startswith("Loopback: as asked")
    assert not server.requests


async def test_demo_says_what_a_hop_left_behind() -> None:
    thoughtful = Answer(text="Pico paints.", reasoning="A robot needs a name.")
    async with ProviderServer([thoughtful, Answer(text="It rains."), Answer(text="The end.")]) as server:
        process = await _start("demo", environment=server.environment())
        out, _err = await _finish(process)

    assert process.returncode == 0
    assert "A robot needs a name." in out
    assert "reasoning_dropped x1" in out


async def test_what_a_model_says_cannot_drive_the_terminal() -> None:
    async with ProviderServer([Answer(text="\x1b]0;title\x07 [bold]:smile:"), *[Answer(text="So.")] * 2]) as server:
        process = await _start("demo", environment=server.environment())
        out, _err = await _finish(process)

    assert "\x1b" not in out
    assert "]0;title [bold]:smile:" in out


async def test_a_refused_turn_is_one_line() -> None:
    refusal = ScriptedError(401, "no such\nkey", code="invalid_api_key")
    async with ProviderServer([refusal]) as server:
        process = await _start("demo", "--models", "gpt-6-luna", environment=server.environment())
        _out, err = await _finish(process)

    assert process.returncode == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ("story-teller-9", "the provider of 'story-teller-9' is unknown"),
        ("groq:", "'groq:' names no model"),
        (",", "--models names no model"),
        ("gpt-6-luna,claude-sonnet-5-5", "set ANTHROPIC_API_KEY"),
    ],
)
def test_a_model_that_cannot_be_asked_is_told_before_the_first_turn(models: str, told: str) -> None:
    run = _run("demo", "--models", models, environment=_KEYS)

    assert (run.returncode, run.stdout) == (1, "")
    assert told in run.stderr
    assert run.stderr.count("\n") == 1


async def test_ctrl_c_ends_the_demo_cleanly() -> None:
    process = await _start("demo", "--delay", "0.05", environment=_TELL_LEAKS)
    await _read_until(process, b"Pico was")
    process.send_signal(signal.SIGINT)
    _out, err = await _finish(process)

    assert (process.returncode, err) == (130, "interrupted\n")


async def test_ctrl_c_ends_json_cleanly_and_asks_nothing_more() -> None:
    async with ProviderServer(delay=0.05) as server:
        process = await _start("demo", "--json", environment={**server.environment(), **_TELL_LEAKS})
        await _read_until(process, b"text_delta")
        process.send_signal(signal.SIGINT)
        _out, err = await _finish(process)

    assert (process.returncode, err) == (130, "interrupted\n")
    assert len(server.requests) == 1


# chat


def test_chat_hops_within_the_conversation_and_goes_on_after_errors() -> None:
    typed = "\n".join(
        (
            "What is rain?",
            "/model story-teller-9",
            "/dance",
            "/model gpt-6-luna",
            "",
            "And snow?",
            "/usage",
            "/models",
            "/help",
            "/quit",
            "never asked",
        )
    )
    options = ("--loopback", "--delay", "0", "--instructions", "Be brief.")
    run = _run("chat", "--model", "claude-sonnet-5-5", *options, typed=typed)

    assert run.returncode == 0
    assert "stand-in for claude-sonnet-5-5 speaks here, not a model; it was sent no earlier turn" in run.stdout
    assert "stand-in for gpt-6-luna speaks here, not a model; it was sent 1 earlier turn." in run.stdout
    assert "You began with “What is rain?”" in run.stdout
    assert "The instruction in force is “Be brief”" in run.stdout
    assert "never asked" not in run.stdout
    assert f"{Claude37Sonnet.model_name} · anthropic, its maker serves it until 2026-02-19" in run.stdout
    errors = run.stderr.splitlines()
    assert [line.partition(";")[0] for line in errors] == [
        "error: the provider of 'story-teller-9' is unknown",
        "error: there is no command /dance",
    ]


async def test_chat_reports_the_last_turn() -> None:
    script = [Answer(text="Water.", reasoning="What falls?", signature="sealed"), Answer(text="Ice.")]
    async with ProviderServer(script) as server:
        process = await _start("chat", "--model", "claude-sonnet-5-5", environment=server.environment())
        typed = ("/report", "What is rain?", "/model gpt-6-luna", "And snow?", "/report")
        out, err = await _finish(process, "\n".join(typed))

    assert (process.returncode, err) == (0, "")
    assert out.count("there is no turn yet") == 1
    assert out.count("report: ") == 1
    assert "report: 3 of 4 parts went as they were (3 text)" in out
    [row] = [line for line in out.splitlines() if "reasoning_dropped" in line and " → " in line]
    cells = ["reasoning", "claude-sonnet-5-5 → gpt-6-luna", "omitted", "reasoning_dropped", "foreign origin"]
    assert re.split(r" {2,}", row.strip()) == cells


async def test_chat_goes_on_after_a_failed_answer() -> None:
    script = [ScriptedError(403, "slow down"), Answer(text="Water.")]
    async with ProviderServer(script, api_key="key-in-environment") as server:
        place = ("--provider", "groq", "--base-url", f"{server.url}/groq/v1")
        process = await _start("chat", "--model", "llama-1", *place, environment={"GROQ_API_KEY": "key-in-environment"})
        out, err = await _finish(process, "What is rain?\n/model llama-2\nWhat is rain?")

    assert process.returncode == 0
    assert "slow down" in err
    assert err.count("\n") == 1
    assert "Water." in out
    assert "key-in-environment" not in out + err
    assert [(seen.model, len(seen.turns)) for seen in server.requests] == [("llama-1", 1), ("llama-2", 1)]


async def test_ctrl_c_ends_one_answer_and_then_the_chat() -> None:
    process = await _start("chat", "--model", "claude-sonnet-5-5", "--loopback", "--delay", "0.02")
    assert process.stdin is not None
    process.stdin.write(b"What is rain?\n")
    await _read_until(process, b"answer number")
    process.send_signal(signal.SIGINT)
    await _read_until(process, b"interrupted; the received part stays in the conversation")
    process.stdin.write(b"And snow?\n")
    second = await _read_until(process, b"hop: the whole history was carried over")
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(_GUARD_SECONDS):
        status = await process.wait()  # its input is still open: nothing but Ctrl-C ends it
    _out, err = await _finish(process)

    assert (status, err) == (0, "")
    assert "it was sent 1 earlier turn." in second.decode()
    assert "the last answer was “Here is answer number" in second.decode()


# the command itself


def test_version() -> None:
    run = _run("--version")

    assert (run.returncode, run.stdout, run.stderr) == (0, f"dhenara-async {__version__}\n", "")


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_it_says_so(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from dhenara_async.__main__ import main; main()"
    run = _run("demo", code=code)

    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "the command line needs the extra: pip install 'dhenara-async[cli]'\n"


def test_plain_and_json_exclude_each_other() -> None:
    run = _run("demo", "--plain", "--json")

    assert (run.returncode, run.stdout) == (2, "")
    assert "--plain" in run.stderr


# ask


def test_ask_shows_every_answer() -> None:
    run = _run("ask", "Why?", *(f"--model={model.model_name}" for model, _ in _MAKERS), "--delay", "0")

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Loopback: no key in the environment")
    assert "\x1b" not in run.stdout
    for model, provider in _MAKERS:
        assert f"{model.model_name} · {provider} (stand-in)" in run.stdout
        assert f"A loopback stand-in for {model.model_name} speaks here" in run.stdout
    assert run.stdout.count("You asked “Why?”.") == run.stdout.count("output tokens (reported); ") == 3


async def test_ask_shows_who_has_failed_and_what_the_others_say() -> None:
    def script(seen: SeenRequest) -> Answer | ScriptedError:
        return (
            ScriptedError(401, "no such key") if seen.provider == "openai" else Answer(text=f"So says {seen.system}.")
        )

    names = [f"--model={model.model_name}" for model, _ in _MAKERS]
    async with ProviderServer(script) as server:
        process = await _start(
            "ask", "Why?", *names, "--instructions", "Bruce", "--limit", "2", environment=server.environment()
        )
        out, err = await _finish(process)

    assert process.returncode == 1
    assert out.count("So says Bruce.") == 2
    assert err.startswith("error: ")
    assert (err.count("\n"), len(server.requests)) == (1, 3)


def test_ask_needs_a_name_that_means_something() -> None:
    run = _run("ask", "Why?", "--model", "nobody-knows")

    assert run.returncode == 1
    assert run.stderr.startswith("error: the provider of 'nobody-knows' is unknown")
