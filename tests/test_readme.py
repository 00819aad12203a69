"""The examples of the README run as they stand and print what the README shows; its tables agree with the code.

The examples are pasted line by line, as into ``python -m asyncio``, against a ``ProviderServer`` in another thread (the
blocking client would wait for a server in its own). ``dhenara_async.testing.examples`` has the answers.
"""

import ast
import asyncio
import inspect
import os
import re
import sys
import tomllib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import cast, get_args

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from dhenara_async import AIModelCallConfig, Bounds, FetchPolicy, RetryPolicy, StreamEvent, Timeouts, errors
from dhenara_async.hosts.registry import REGISTERED_HOSTS
from dhenara_async.testing import ProviderServer
from dhenara_async.testing.examples import ExampleAnswers
from tests.loopback import Connection, chat_endpoint, chat_stream, chunked, serve
from tests.readme.blocks import README, Block, anchors, blocks, paste, section

PROGRAM, SETUP, *REST = blocks("python")
RAY = next(block.code for block in REST if "import ray" in block.code)  # runs in test_ray.py
EXAMPLES = [block for block in REST if block.code != RAY and block.heading != "Web apps"]  # those run in tests/web
FEW_LINES = [block for block in EXAMPLES if block.heading == "In few lines"]
KEEP_ALIVE = next(block for block in EXAMPLES if "keep-alive" in block.code)


@contextmanager
def provider() -> Generator[Mapping[str, str]]:
    """The local server that the README tells readers to start; the variables that lead to it."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(ProviderServer(ExampleAnswers())) as server,
    ):
        yield server.environment()


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> Generator[Mapping[str, str]]:
    """The same, with the variables set."""
    with provider() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples that write files leave none here; the picture that one of them sends is there."""
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_hosts_of_other_tests() -> Generator[None]:
    """The readers' process knows no host but those of the library and of the README itself."""
    kept = dict(REGISTERED_HOSTS)
    REGISTERED_HOSTS.clear()  # in place: several modules have imported the table
    yield
    REGISTERED_HOSTS.clear()
    REGISTERED_HOSTS.update(kept)


def test_every_example_shows_its_output() -> None:
    assert [block.heading for block in (PROGRAM, SETUP, *EXAMPLES) if block.output is None] == []


async def test_the_examples_print_their_output_in_one_session(
    exports: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    for block in (SETUP, *EXAMPLES):
        await paste(block.code, names)
        assert capsys.readouterr().out == block.output, block.heading


LINES = {
    "call": 2,
    "stream": 4,
    "structured output": 3,
    "multi-turn": 4,
    "switch provider": 4,
    "fail-over": 3,
    "file": 2,
    "cost": 3,
}


@pytest.mark.parametrize(("task", "block"), list(zip(LINES, FEW_LINES, strict=True)), ids=[*LINES])
def test_a_common_task_takes_few_lines(task: str, block: Block) -> None:
    """Lines with imports; the class that a user has for structured output is not counted."""
    code = re.sub(r"^class .*\n(    .*\n)*|^from pydantic .*\n", "", block.code, flags=re.MULTILINE)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= LINES[task], block.code


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.heading)
async def test_each_example_needs_only_the_two_endpoints(
    block: Block, exports: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    await paste(SETUP.code, names)
    capsys.readouterr()
    endpoints = {name: names[name] for name in ("claude", "gpt", "__builtins__")}
    await paste(block.code, endpoints)
    assert capsys.readouterr().out == block.output


async def test_the_program_is_at_most_fifteen_lines_of_work_and_prints_its_output() -> None:
    work = [line for line in PROGRAM.code.splitlines() if line.strip() and not re.match(r"import|from", line)]
    assert len(work) <= 15
    with provider() as environment, anyio.fail_after(60):
        done = await anyio.run_process(
            [sys.executable, "-W", "error", "-c", PROGRAM.code],
            env={**os.environ, **environment, "PYTHONIOENCODING": "utf-8"},
            check=False,
            stdout=PIPE,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == PROGRAM.output


async def test_the_keep_alive_example_sends_signs_of_life_while_the_model_is_silent() -> None:
    said = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        await said.wait()
        await connection.send(chunked(*chat_stream("Ebb", " and", " flow.")))

    function = KEEP_ALIVE.code.partition("\n\n\nasync for")[0].replace("move_on_after(15)", "move_on_after(0.001)")
    async with serve(play) as server:
        names: dict[str, object] = {"claude": chat_endpoint(server.url)}
        await paste(function, names)
        events = cast("Callable[[str], AsyncGenerator[str]]", names["server_sent_events"])("Sing.")
        lines: list[str] = []
        async for line in events:
            lines.append(line)
            if len(lines) == 3:
                said.set()
        assert len(server.requests) == 1
    assert lines[:3] == [": keep-alive\n\n"] * 3
    assert [re.findall(r'"text":("[^"]*")', line) for line in lines if "text_delta" in line] == [
        ['"Ebb"'],
        ['" and"'],
        ['" flow."'],
    ]


# What the table for users of other libraries takes for granted.
AROUND = """\
from pydantic import BaseModel
from dhenara_async import *

class Person(BaseModel):
    name: str
    born: int

def weather(city: str) -> str:
    return city

q, s, messages = "Hello", "Be brief.", [Message.user("Hello")]
manager = ConversationManager()
conversation = await manager.create()
r = await AIModelClient(claude).generate(q)
"""
CALLS = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", section("Coming from another library"), re.MULTILINE)[1:]


@pytest.mark.parametrize("cell", [pytest.param(cell, id=library) for library, cell in CALLS])
async def test_the_calls_for_users_of_other_libraries_work(cell: str, exports: Mapping[str, str]) -> None:
    names: dict[str, object] = {}
    await paste(SETUP.code + AROUND, names)
    if "Person" in cell:
        names["q"] = "Who wrote the first program?"
    await paste("\n".join(re.findall(r"`([^`]+)`", cell)), names)


def test_the_links_inside_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(#([^)]+)\)", README)
    assert targets and set(targets) <= anchors()
    files = re.findall(r"\]\((?!#|https:)([^)]+)\)", README)
    assert files and all((Path(__file__).parents[1] / file).is_file() for file in files)


def test_the_table_of_contents_names_every_section() -> None:
    sections = re.findall(r"^## (.+)$", README, re.MULTILINE)
    listed = re.findall(r"\[([^\]]+)\]\(#", section("Contents"))
    assert listed == [name for name in sections if name not in ("Fifteen lines", "Contents")]


def test_the_two_commands_come_first_and_the_gate_runs_the_second() -> None:
    commands = [block.code for block in blocks("bash")]
    assert "dhenara_async demo" in commands[0] and commands[0].count("\n") == 1
    assert commands[1].rstrip().endswith(".venv/bin/pytest") and commands[1].count("\n") == 1
    gate = (Path(__file__).parents[1] / ".ci" / "run").read_text(encoding="utf-8")
    assert gate.rstrip().endswith("\npytest")


def test_install_lines_install_from_the_checkout_with_extras_that_exist() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = re.findall(r"pip install (?:--quiet )?(?:-e )?'?([^\s'\[`]+)(?:\[([\w,]+)\])?", README)
    assert {package for package, _ in wanted} == {"."}
    assert {extra for _, extras in wanted for extra in extras.split(",") if extra} <= {
        *project["optional-dependencies"]
    }


@pytest.mark.parametrize(
    ("heading", "value"),
    [("Time limits", Timeouts()), ("Retries", RetryPolicy()), ("Downloads", FetchPolicy())],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_of_settings_has_every_setting_with_its_default(
    heading: str, value: Timeouts | RetryPolicy | FetchPolicy
) -> None:
    told = dict(re.findall(r"^\| `(\w+)=([\w.]+)` \|", section(heading), re.MULTILINE))
    defaults = value.model_dump()
    assert told == {name: _written(default) for name, default in defaults.items()}


def _written(default: object) -> str:
    return f"{default:.15g}" if isinstance(default, float) else str(default)


def test_the_table_of_size_limits_has_every_limit_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section("Size limits"), re.MULTILINE))
    units = {"MiB": 1024 * 1024, "KiB": 1024}
    sizes: dict[str, int] = {}
    for name, words in told.items():
        *number, unit = words.split() if words.split()[-1] in units else [*words.split(), ""]
        sizes[name] = int("".join(number)) * units.get(unit, 1)
    assert sizes == Bounds().model_dump()


def test_the_table_of_options_has_every_option() -> None:
    rows = re.findall(r"^\| [^|]+ \| (.+) \|$", section("Options"), re.MULTILINE)[1:]
    told = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", " ".join(rows)))
    assert sorted(told) == sorted(AIModelCallConfig.model_fields)


def test_the_table_of_errors_has_every_error() -> None:
    told = re.findall(r"^\| `(\w+)` \|", section("Errors"), re.MULTILINE)
    classes = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.DhenaraError)
    ]
    assert sorted(told) == sorted(classes)


def test_the_table_of_events_has_every_event() -> None:
    told = re.findall(r"^\| `(\w+)` \|", section("Events"), re.MULTILINE)
    assert sorted(told) == sorted(event.__name__ for event in get_args(StreamEvent))


def test_the_map_names_files_that_exist() -> None:
    package = Path(__file__).parents[1] / "dhenara_async"
    named = set(re.findall(r"(?<![\w/<])((?:[a-z_]+/)*[a-z_]+(?:\.py|/))(?!\w)", section("Map")))
    missing = {name for name in named if not (package / name).exists() and not (package.parent / name).exists()}
    assert named and missing == {"drivers/x/driver.py", "drivers/x/decode.py"}  # x stands for any driver


async def test_the_picture_shows_what_happens_and_loads_nothing() -> None:
    picture = pytest.importorskip("tests.readme.picture", reason="needs rich")
    committed = picture.PICTURE.read_text(encoding="utf-8")
    # rich may place the same words at other coordinates in another version
    words, drawn = (
        re.sub(r"<style.*?</style>|<[^>]+>", " ", svg, flags=re.S).split() for svg in (committed, await picture.draw())
    )
    assert words == drawn, "python -m tests.readme.picture draws it again"
    assert len(committed) < 60_000
    assert re.findall(r"https?://[^\"\s]+|@font-face|@import|<image|url\((?!#)", committed) == [
        "http://www.w3.org/2000/svg"
    ]
    assert "](tests/readme/hop.svg)" in README


def test_examples_are_valid_python() -> None:
    for block in blocks("python"):
        compile(block.code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
