"""Kept talk: ``ask`` and ``chat`` with ``--store``, and the command ``conversations``."""

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from dhenara_async.testing import Answer, ProviderServer
from tests.commands import finish, run, start


async def _ask(*arguments: str, store: Path, environment: Mapping[str, str], typed: str = "") -> tuple[str, str]:
    process = await start(*arguments, "--store", str(store), environment=environment)
    out, err = await finish(process, typed)
    assert process.returncode == 0, err
    return out, err


async def test_a_conversation_goes_on_with_its_model_in_ask_and_chat(tmp_path: Path) -> None:
    store = tmp_path / "talk.db"
    answers = [Answer(text=text) for text in ("Water.", "Ice.", "Vapour.", "Sand.")]
    async with ProviderServer(answers) as server:
        environment = server.environment()
        await _ask("ask", "What is rain?", "-m", "gpt-6-luna", store=store, environment=environment)
        out, _err = await _ask("ask", "-c", "And snow?", store=store, environment=environment)
        line, _err = await _ask("ask", "-c", "And fog?", "--json", store=store, environment=environment)
        told, _err = await _ask("chat", "-c", store=store, environment=environment, typed="And deserts?\n")

    assert (out, orjson.loads(line)["text"]) == ("Ice.\n", "Vapour.")
    assert "the conversation goes on after 3 turns" in told
    assert "Sand." in told
    assert [(seen.model, len(seen.turns)) for seen in server.requests] == [("gpt-6-luna", n) for n in (1, 3, 5, 7)]

    [kept] = map(orjson.loads, run("conversations", "list", "--json", "--store", str(store)).stdout.splitlines())
    shown = run("conversations", "show", "--store", str(store))
    exported = orjson.loads(run("conversations", "export", kept["id"], "--store", str(store)).stdout)
    nodes = run("conversations", "show", "--json", environment={"DHENARA_ASYNC_STORE": str(store)}).stdout.splitlines()

    assert kept["title"] == "What is rain?"
    assert "> And snow?\nIce.\n— gpt-6-luna · openai · complete\n" in shown.stdout
    assert [node["user_query"] for node in exported["nodes"]] == [
        "What is rain?",
        "And snow?",
        "And fog?",
        "And deserts?",
    ]
    assert (exported["head"], len(nodes)) == (exported["nodes"][-1]["id"], 4)

    deleted = run("conversations", "delete", kept["id"], "--store", str(store), "--json")
    assert orjson.loads(deleted.stdout) == {"id": kept["id"], "deleted": True}
    assert run("conversations", "list", "--store", str(store)).stdout == ""
    gone = run("conversations", "show", kept["id"], "--store", str(store))
    assert (gone.returncode, gone.stdout) == (1, "")


async def test_chat_shows_its_tree_goes_back_in_it_and_searches(tmp_path: Path) -> None:
    store = tmp_path / "talk.db"
    typed = ("/tree", "/switch 1", "What is rain?", "And snow?", "/switch 1", "And fog?", "/switch 4", "/tree")
    async with ProviderServer([Answer(text=text) for text in ("Water.", "Ice.", "Vapour.", "Sand.")]) as server:
        environment = server.environment()
        process = await start("chat", "-m", "gpt-6-luna", "--store", str(store), environment=environment)
        out, err = await finish(process, "\n".join((*typed, "/search vapour FOG", "/search sand")))
        told, _err = await _ask("chat", "-c", store=store, environment=environment, typed="And deserts?\n")

    assert process.returncode == 0
    assert out.count("there is no turn yet") == 1
    assert [line.partition(";")[0] for line in err.splitlines()] == [
        "error: /switch needs the number of a turn, from 1 to 0",
        "error: /switch needs the number of a turn, from 1 to 3",
    ]
    tree = out.partition(": 3 turns\n")[2].splitlines()[:3]
    assert [line.partition("?")[0] for line in tree] == [
        "1. gpt-6-luna: What is rain",
        "  2. gpt-6-luna: And snow",
        "  3. gpt-6-luna: And fog",
    ]
    assert "· What is rain? · And fog? Vapour.\n" in out
    assert "nothing is found" in out
    assert "the conversation goes on after 2 turns" in told
    assert [len(seen.turns) for seen in server.requests] == [1, 3, 3, 5]


def test_a_chat_without_a_question_keeps_nothing(tmp_path: Path) -> None:
    store = str(tmp_path / "talk.db")
    assert run("chat", "-m", "gpt-6-luna", "--loopback", "--store", store, typed="/usage\n").returncode == 0
    assert run("conversations", "list", "--store", store).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ask", "-c", "Why?"), "give --store FILE, or set DHENARA_ASYNC_STORE"),
        (("ask", "-c", "Why?", "--store", "no-such.db"), "there is no such file"),
        (("conversations", "list", "--store", "no-such.db"), "there is no such file"),
        (("ask", "Why?", "--store", "x.db", "-m", "o3", "-m", "o1", "--loopback"), "keeps the answer of one model"),
    ],
)
def test_a_mistake_leaves_no_file(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert told in " ".join(done.stderr.split())
    assert not Path("no-such.db").exists()
    assert not Path("x.db").exists()
