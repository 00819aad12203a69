"""The command line, as a person starts it: in a process of its own, without keys unless a test gives some.

With keys and base URLs that point at a ``ProviderServer``, the commands take it for the real providers.
"""

import asyncio
import re
import signal
from itertools import groupby
from typing import cast

import orjson
import pytest

from dhenara_async import ConversionReport, Usage, __version__
from dhenara_async.models.anthropic import Claude37Sonnet, ClaudeSonnet55
from dhenara_async.models.google import Gemini38Flash
from dhenara_async.models.openai import GPT6Luna
from dhenara_async.testing import Answer, ProviderServer, ScriptedError
from tests.commands import GUARD_SECONDS, finish, read_until, run, start

_MAKERS = ((ClaudeSonnet55, "anthropic"), (GPT6Luna, "openai"), (Gemini38Flash, "google_ai"))
_QUESTIONS = ("about a robot learning to paint", "add a twist", "Conclude the story")
_TELL_LEAKS = {"PYTHONWARNINGS": "always::ResourceWarning"}  # a socket left open adds a line to stderr
_KEYS = {"OPENAI_API_KEY": "key-in-environment"}


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
    done = run("demo", "--delay", "0")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Loopback: there is no key for")
    assert "\x1b" not in done.stdout
    headings = [line for line in done.stdout.splitlines() if line.startswith("Turn ")]
    for number, ((model, provider), question, heading) in enumerate(zip(_MAKERS, _QUESTIONS, headings, strict=True), 1):
        assert heading == f"Turn {number} of 3 · {model.model_name} · {provider} (stand-in)"
        assert question in done.stdout
    assert "it was sent 1 earlier turn." in done.stdout
    assert "it was sent 2 earlier turns." in done.stdout
    assert "The instruction in force is “Bring the story to a satisfying conclusion”" in done.stdout
    assert done.stdout.count("output tokens (reported)") == 3
    assert done.stdout.count("hop: the whole history was carried over") == 2


def test_demo_json_writes_nothing_but_events() -> None:
    done = run("demo", "--json", "--delay", "0")

    assert done.returncode == 0
    assert done.stderr.startswith("Loopback:")
    turns = _events(done.stdout)
    assert list(turns) == [1, 2, 3]
    assert [events[0]["provider"] for events in turns.values()] == [provider for _model, provider in _MAKERS]
    for events in turns.values():
        _check_grammar(events)


def test_demo_plain_shows_the_same_answers() -> None:
    done = run("demo", "--plain", "--delay", "0")

    assert (done.returncode, done.stderr) == (0, "")
    assert "it was sent 2 earlier turns." in done.stdout
    assert done.stdout.count("usage: ") == 3


def test_demo_asks_the_models_it_is_told_in_turn() -> None:
    done = run("demo", "--json", "--delay", "0", "--models", "o3-mini, groq:llama3:8b")

    started = [(events[0]["provider"], events[0]["model"]) for events in _events(done.stdout).values()]
    assert started == [("openai", "o3-mini"), ("groq", "llama3:8b"), ("openai", "o3-mini")]


def test_demo_reports_what_became_of_each_history() -> None:
    done = run("demo", "--report", "--delay", "0")

    assert (done.returncode, done.stderr) == (0, "")
    summaries = [line for line in done.stdout.splitlines() if line.startswith("report: ")]
    assert summaries == [
        "report: 1 of 1 parts went as they were (1 text)",
        "report: 2 of 4 parts went as they were (2 text)",
        "report: 3 of 7 parts went as they were (3 text)",
    ]
    rows = [tuple(re.split(r" {2,}", line.strip())) for line in done.stdout.splitlines() if " → " in line]
    (first, _), (second, _), (third, _) = _MAKERS
    hops = [(first, second), (first, third), (second, third)]
    assert [row[:4] for row in rows if row[0] == "reasoning"] == [
        ("reasoning", f"{origin.model_name} → {target.model_name}", "omitted", "reasoning_dropped")
        for origin, target in hops
    ]
    assert {row[3:] for row in rows if row[0] == "reasoning"} == {("reasoning_dropped", "foreign origin")}
    assert [row[2:4] for row in rows if row[0] == "text"] == [("downgraded", "citations_dropped")] * 3


def test_demo_report_as_json_is_a_line_behind_each_turn() -> None:
    done = run("demo", "--report", "--json", "--delay", "0")

    assert done.returncode == 0
    turns = _events(done.stdout)
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
        process = await start("demo", environment=variables)
        out, err = await finish(process)

    assert (process.returncode, err) == (0, "")
    assert [seen.provider for seen in server.requests] == ["anthropic", "google", "anthropic"]
    assert [seen.system for seen in server.requests][2] == "Bring the story to a satisfying conclusion."
    assert "oopback:" not in out
    assert not [value for name, value in variables.items() if name.endswith("KEY") and value in out]


async def test_demo_says_what_a_turn_cost_and_nothing_of_stand_ins() -> None:
    answer = Answer(text="Pico paints.", usage=Usage(input_tokens=1000, output_tokens=200))
    async with ProviderServer([answer] * 3) as server:
        process = await start("demo", "--models", "openai:gpt-4o-mini", environment=server.environment())
        out, _err = await finish(process)
    assert out.count("cost: $0.000270") == 3
    assert "cost:" not in run("demo", "--delay", "0").stdout


async def test_demo_loopback_leaves_keys_alone() -> None:
    async with ProviderServer() as server:
        process = await start("demo", "--loopback", "--delay", "0", environment=server.environment())
        out, _err = await finish(process)

    assert process.returncode == 0
    assert out.startswith("Loopback: as asked")
    assert not server.requests


async def test_demo_says_what_a_hop_left_behind() -> None:
    thoughtful = Answer(text="Pico paints.", reasoning="A robot needs a name.")
    async with ProviderServer([thoughtful, Answer(text="It rains."), Answer(text="The end.")]) as server:
        process = await start("demo", environment=server.environment())
        out, _err = await finish(process)

    assert process.returncode == 0
    assert "A robot needs a name." in out
    assert "reasoning_dropped x1" in out


async def test_what_a_model_says_cannot_drive_the_terminal() -> None:
    async with ProviderServer([Answer(text="\x1b]0;title\x07 [bold]:smile:"), *[Answer(text="So.")] * 2]) as server:
        process = await start("demo", environment=server.environment())
        out, _err = await finish(process)

    assert "\x1b" not in out
    assert "]0;title [bold]:smile:" in out


async def test_a_refused_turn_is_one_line() -> None:
    refusal = ScriptedError(401, "no such\nkey", code="invalid_api_key")
    async with ProviderServer([refusal]) as server:
        process = await start("demo", "--models", "gpt-6-luna", environment=server.environment())
        _out, err = await finish(process)

    assert process.returncode == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ("story-teller-9", "the provider of 'story-teller-9' is unknown"),
        ("groq:", "'groq:' names no model"),
        (",", "--models names no model"),
        ("gpt-6-luna,claude-sonnet-5-5", "run: dhenara-async keys set anthropic, or set ANTHROPIC_API_KEY"),
    ],
)
def test_a_model_that_cannot_be_asked_is_told_before_the_first_turn(models: str, told: str) -> None:
    done = run("demo", "--models", models, environment=_KEYS)

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


async def test_ctrl_c_ends_the_demo_cleanly() -> None:
    process = await start("demo", "--delay", "0.2", environment=_TELL_LEAKS)
    await read_until(process, b"Pico was")
    process.send_signal(signal.SIGINT)
    _out, err = await finish(process)

    assert (process.returncode, err) == (130, "interrupted\n")


async def test_ctrl_c_ends_json_cleanly_and_asks_nothing_more() -> None:
    async with ProviderServer(delay=0.05) as server:
        process = await start("demo", "--json", environment={**server.environment(), **_TELL_LEAKS})
        await read_until(process, b"text_delta")
        process.send_signal(signal.SIGINT)
        _out, err = await finish(process)

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
    done = run("chat", "--model", "claude-sonnet-5-5", *options, typed=typed)

    assert done.returncode == 0
    assert "stand-in for claude-sonnet-5-5 speaks here, not a model; it was sent no earlier turn" in done.stdout
    assert "stand-in for gpt-6-luna speaks here, not a model; it was sent 1 earlier turn." in done.stdout
    assert "You began with “What is rain?”" in done.stdout
    assert "The instruction in force is “Be brief”" in done.stdout
    assert "never asked" not in done.stdout
    assert f"{Claude37Sonnet.model_name} · anthropic, its maker retired it on 2026-02-19" in done.stdout
    errors = done.stderr.splitlines()
    assert [line.partition(";")[0] for line in errors] == [
        "error: the provider of 'story-teller-9' is unknown",
        "error: there is no command /dance",
    ]


async def test_chat_reports_the_last_turn() -> None:
    script = [Answer(text="Water.", reasoning="What falls?", signature="sealed"), Answer(text="Ice.")]
    async with ProviderServer(script) as server:
        process = await start("chat", "--model", "claude-sonnet-5-5", environment=server.environment())
        typed = ("/report", "What is rain?", "/model gpt-6-luna", "And snow?", "/report")
        out, err = await finish(process, "\n".join(typed))

    assert (process.returncode, err) == (0, "")
    assert out.count("there is no turn yet") == 1
    assert out.count("report: ") == 1
    assert "report: 3 of 4 parts went as they were (3 text)" in out
    [row] = [line for line in out.splitlines() if "reasoning_dropped" in line and " → " in line]
    cells = ["reasoning", "claude-sonnet-5-5 → gpt-6-luna", "omitted", "reasoning_dropped", "foreign origin"]
    assert re.split(r" {2,}", row.strip()) == cells


def test_chat_json_writes_nothing_but_events() -> None:
    typed = "What is rain?\n/model gpt-6-luna\n/usage\nAnd snow?\n"
    done = run("chat", "-m", "claude-sonnet-5-5", "--json", "--loopback", "--delay", "0", typed=typed)

    assert done.returncode == 0
    turns = _events(done.stdout)
    assert [(turn, events[0]["provider"]) for turn, events in turns.items()] == [(1, "anthropic"), (2, "openai")]
    for events in turns.values():
        _check_grammar(events)
    assert "next answer: gpt-6-luna" in done.stderr


async def test_chat_goes_on_after_a_failed_answer() -> None:
    script = [ScriptedError(403, "slow down"), Answer(text="Water.")]
    async with ProviderServer(script, api_key="key-in-environment") as server:
        place = ("--provider", "groq", "--base-url", f"{server.url}/groq/v1")
        process = await start("chat", "--model", "llama-1", *place, environment={"GROQ_API_KEY": "key-in-environment"})
        out, err = await finish(process, "What is rain?\n/model llama-2\nWhat is rain?")

    assert process.returncode == 0
    assert "slow down" in err
    assert err.count("\n") == 1
    assert "Water." in out
    assert "key-in-environment" not in out + err
    assert [(seen.model, len(seen.turns)) for seen in server.requests] == [("llama-1", 1), ("llama-2", 1)]


async def test_ctrl_c_ends_one_answer_and_then_the_chat() -> None:
    process = await start("chat", "--model", "claude-sonnet-5-5", "--loopback", "--delay", "0.2")
    assert process.stdin is not None
    process.stdin.write(b"What is rain?\n")
    await read_until(process, b"answer number")
    process.send_signal(signal.SIGINT)
    await read_until(process, b"interrupted; the received part stays in the conversation")
    process.stdin.write(b"And snow?\n")
    second = await read_until(process, b"hop: the whole history was carried over")
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(GUARD_SECONDS):
        status = await process.wait()  # its input is still open: nothing but Ctrl-C ends it
    _out, err = await finish(process)

    assert (status, err) == (0, "")
    assert "it was sent 1 earlier turn." in second.decode()
    assert "the last answer was “Here is answer number" in second.decode()


# the command itself


def test_version() -> None:
    done = run("--version")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"dhenara-async {__version__}\n", "")


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_it_says_so(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from dhenara_async.__main__ import main; main()"
    done = run("demo", code=code)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the command line needs the extra: pip install 'dhenara-async[cli]'\n"


def test_plain_and_json_exclude_each_other() -> None:
    done = run("demo", "--plain", "--json")

    assert (done.returncode, done.stdout) == (2, "")
    assert "--plain" in done.stderr
