"""``ask``, ``models``, ``hosts`` and ``keys``, as a person or a script starts them."""

import base64
import signal
import stat
import sys
from pathlib import Path

import orjson
import pytest

from dhenara_async.models.anthropic import ClaudeSonnet55
from dhenara_async.models.google import Gemini38Flash
from dhenara_async.models.openai import GPT6Luna
from dhenara_async.testing import Answer, ProviderServer, ScriptedError, SeenRequest
from tests.commands import finish, read_until, run, start

_MAKERS = ((ClaudeSonnet55, "anthropic"), (GPT6Luna, "openai"), (Gemini38Flash, "google_ai"))
_ALL = tuple(f"--model={model.model_name}" for model, _ in _MAKERS)
_KEY = "sk-kept-0123456789"
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The variable of a settings folder that does not exist yet."""
    return {"DHENARA_ASYNC_HOME": str(tmp_path / "settings")}


# ask: one model


async def test_ask_streams_its_answer_and_prints_nothing_else_on_stdout() -> None:
    async with ProviderServer(delay=0.02) as server:
        process = await start("ask", "Why?", "-m", "gpt-6-luna", "-s", "Be brief.", environment=server.environment())
        assert process.stdin is not None
        process.stdin.close()
        first = await read_until(process, b"answer number")
        assert process.returncode is None  # the rest is still to come
        rest, err = await finish(process)

    assert (process.returncode, err) == (0, "")
    assert (first.decode() + rest).startswith("Here is answer number")
    assert (first.decode() + rest).count("\n") == 1
    [seen] = server.requests
    assert (seen.model, seen.system) == ("gpt-6-luna", "Be brief.")


async def test_ask_puts_the_piped_text_before_the_question() -> None:
    async with ProviderServer([Answer(text="A poem.")]) as server:
        process = await start("ask", "What is this?", "-m", "gpt-6-luna", environment=server.environment())
        out, err = await finish(process, "Roses are red\n")

    assert (out, err) == ("A poem.\n", "")
    assert b'"Roses are red\\n\\nWhat is this?"' in server.requests[0].body


async def test_ask_sends_files_and_a_piped_file(tmp_path: Path) -> None:
    picture = tmp_path / "pixel.png"
    picture.write_bytes(_PIXEL)
    async with ProviderServer([Answer(text="A dot.")]) as server:
        options = ("-a", str(picture), "-a", "-")
        process = await start("ask", "What is it?", "-m", "gpt-6-luna", *options, environment=server.environment())
        out, err = await finish(process, "%PDF-1.4 not much of a document")

    assert (out, err) == ("A dot.\n", "")
    body = server.requests[0].body.decode()
    assert base64.b64encode(_PIXEL).decode() in body
    assert "application/pdf" in body
    assert "not much" not in body


@pytest.mark.parametrize("form", ["json", "file", "fields"])
async def test_ask_takes_a_schema(form: str, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    file = tmp_path / "person.json"
    file.write_bytes(orjson.dumps(schema))
    given = {"json": orjson.dumps(schema).decode(), "file": str(file), "fields": "name, age int"}[form]
    async with ProviderServer([Answer(text='{"name":"Ada","age":36}')]) as server:
        process = await start("ask", "Who?", "-m", "gpt-6-luna", "--schema", given, environment=server.environment())
        out, err = await finish(process)

    assert (process.returncode, err) == (0, "")
    assert orjson.loads(out) == {"name": "Ada", "age": 36}
    assert orjson.dumps(schema["properties"]) in server.requests[0].body


async def test_an_answer_that_is_not_the_schemas_ends_with_1() -> None:
    async with ProviderServer([Answer(text="I would rather not.")]) as server:
        options = ("-m", "gpt-6-luna", "--schema", "name")
        process = await start("ask", "Who?", *options, environment=server.environment())
        out, err = await finish(process)

    assert (process.returncode, out) == (1, "I would rather not.\n")
    assert err.startswith("error: ")


async def test_ctrl_c_ends_ask() -> None:
    async with ProviderServer(delay=0.05) as server:
        process = await start("ask", "Why?", "-m", "gpt-6-luna", environment=server.environment())
        assert process.stdin is not None
        process.stdin.close()
        await read_until(process, b"Here is")
        process.send_signal(signal.SIGINT)
        _out, err = await finish(process)

    assert (process.returncode, err) == (130, "interrupted\n")


def test_no_answer_is_invented_without_being_asked_for() -> None:
    done = run("ask", "Why?", "-m", "gpt-6-luna", environment={"OPENAI_API_KEI": "mistyped"})

    assert (done.returncode, done.stdout) == (2, "")
    assert "run: dhenara-async keys set openai, or set OPENAI_API_KEY" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("Why?", "-m", "nobody-knows"), "the provider of 'nobody-knows' is unknown"),
        (("Why?",), "run: dhenara-async keys set PROVIDER"),
        (("-m", "gpt-6-luna"), "there is no question"),
        (("Why?", "-m", "openai_compatible:x"), "give --base-url URL"),
        (("Why?", "-a", "no/such/file.pdf"), "no/such/file.pdf"),
        (("Why?", "--schema", "{nonsense"), "--schema is not JSON"),
        (("Why?", "--schema", "name colour"), "neither a file nor a field"),
    ],
)
def test_a_mistake_before_anything_is_sent_ends_with_2(arguments: tuple[str, ...], told: str) -> None:
    done = run("ask", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert "AIModel" not in done.stderr  # commands are spoken of, not constructors


def test_help_lists_the_exit_codes() -> None:
    assert "130 = Ctrl-C" in " ".join(run("--help").stdout.split())


# ask: several models


def test_ask_shows_every_answer() -> None:
    done = run("ask", "Why?", *_ALL, "--loopback", "--delay", "0")

    assert done.returncode == 0
    assert done.stderr.startswith("Loopback: as asked")
    assert "\x1b" not in done.stdout
    for model, provider in _MAKERS:
        assert f"{model.model_name} · {provider} (stand-in)" in done.stdout
        assert f"A loopback stand-in for {model.model_name} speaks here" in done.stdout
    assert done.stdout.count("You asked “Why?”.") == done.stdout.count("output tokens (reported); ") == 3


def _half(seen: SeenRequest) -> Answer | ScriptedError:
    return ScriptedError(401, "no such key") if seen.provider == "openai" else Answer(text=f"So says {seen.system}.")


async def test_ask_shows_who_has_failed_and_what_the_others_say() -> None:
    async with ProviderServer(_half) as server:
        options = ("--instructions", "Bruce", "--limit", "2")
        process = await start("ask", "Why?", *_ALL, *options, environment=server.environment())
        out, err = await finish(process)

    assert process.returncode == 1
    assert out.count("So says Bruce.") == 2
    assert err.startswith("error: ")
    assert (err.count("\n"), len(server.requests)) == (1, 3)


async def test_ask_json_is_an_object_for_every_model() -> None:
    async with ProviderServer(_half) as server:
        process = await start("ask", "Why?", "-s", "Bruce", *_ALL, "--json", environment=server.environment())
        out, err = await finish(process)

    assert (process.returncode, err) == (1, "")
    lines = {line["provider"]: line for line in map(orjson.loads, out.splitlines())}
    assert {provider: line["text"] for provider, line in lines.items()} == {
        "anthropic": "So says Bruce.",
        "openai": "",
        "google_ai": "So says Bruce.",
    }
    assert lines["openai"]["error"]["type"] == "AuthenticationError"
    assert lines["anthropic"]["usage"]["source"] == "reported"
    assert len({tuple(line) for line in lines.values()}) == 1


# models, hosts, keys


async def test_a_kept_key_is_sent_and_never_shown(home: dict[str, str]) -> None:
    kept = run("keys", "set", "openai", typed=f"{_KEY}\n", environment=home)
    file = Path(home["DHENARA_ASYNC_HOME"]) / "keys.json"
    async with ProviderServer([Answer(text="Rain.")], api_key=_KEY) as server:
        address = {name: url for name, url in server.environment().items() if name.endswith("BASE_URL")}
        process = await start("ask", "Why?", "-m", "gpt-6-luna", environment={**home, **address})
        out, err = await finish(process)
    shown = [
        kept,
        run("keys", environment=home),
        run("keys", "--json", environment=home),
        run("hosts", environment=home),
    ]

    assert (out, err, len(server.requests)) == ("Rain.\n", "", 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [done.returncode for done in shown] == [0] * 4
    assert shown[1].stdout == "openai · key in the file\n"
    assert orjson.loads(shown[2].stdout) == {"provider": "openai", "key": "file"}
    assert not [done for done in shown if _KEY in done.stdout + done.stderr]

    written = [
        run("keys", *command, "--json", environment=home).stdout for command in (("path",), ("remove", "openai"))
    ]
    assert [orjson.loads(line) for line in written] == [
        {"path": str(file)},
        {"provider": "openai", "removed": True},
    ]
    assert _KEY.encode() not in file.read_bytes()
    assert run("keys", "remove", "openai", environment=home).returncode == 2


@pytest.mark.parametrize("json", [(), ("--json",)])
async def test_a_wrong_kept_key_is_spoken_of_as_a_command(home: dict[str, str], json: tuple[str, ...]) -> None:
    run("keys", "set", "openai", typed=_KEY, environment=home)
    async with ProviderServer(api_key="another-key") as server:
        address = {name: url for name, url in server.environment().items() if name.endswith("BASE_URL")}
        process = await start("ask", "Why?", "-m", "gpt-6-luna", *json, environment={**home, **address})
        out, err = await finish(process)

    assert process.returncode == 1
    assert "the key is kept here (dhenara-async keys)" in out + err
    assert "AIModelAPI" not in out + err
    assert _KEY not in out + err


def test_a_key_can_be_in_the_systems_keyring(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "drawer.py").write_text(
        "import json, pathlib\n"
        "from keyring.backend import KeyringBackend\n"
        "class Drawer(KeyringBackend):\n"
        "    priority = 1\n"
        "    file = pathlib.Path(__file__).with_suffix('.json')\n"
        "    def held(self): return json.loads(self.file.read_text()) if self.file.exists() else {}\n"
        "    def get_password(self, service, name): return self.held().get(service + name)\n"
        "    def set_password(self, service, name, key): self.file.write_text(json.dumps({service + name: key}))\n"
        "    def delete_password(self, service, name): self.file.write_text('{}')\n"
    )
    environment = {**home, "PYTHON_KEYRING_BACKEND": "drawer.Drawer", "PYTHONPATH": f"{tmp_path}:{sys.path[0]}"}
    kept = run("keys", "set", "openai", "--keyring", typed=_KEY, environment=environment)

    assert (kept.returncode, kept.stderr) == (0, "")
    assert _KEY in (tmp_path / "drawer.json").read_text()
    assert _KEY not in (Path(home["DHENARA_ASYNC_HOME"]) / "keys.json").read_text()
    assert run("keys", environment=environment).stdout == "openai · key in the keyring\n"
    assert run("keys", "remove", "openai", environment=environment).returncode == 0
    assert (tmp_path / "drawer.json").read_text() == "{}"


def test_the_keyring_needs_its_extra(home: dict[str, str]) -> None:
    code = "import sys; sys.modules['keyring'] = None; from dhenara_async.__main__ import main; main()"
    done = run("keys", "set", "openai", "--keyring", typed=_KEY, environment=home, code=code)

    assert done.returncode == 2
    assert (
        done.stderr == "error: the system's keyring needs the extra 'keyring': pip install 'dhenara-async[keyring]'\n"
    )


def test_keys_that_others_can_read_are_refused(home: dict[str, str]) -> None:
    run("keys", "set", "openai", typed=_KEY, environment=home)
    (Path(home["DHENARA_ASYNC_HOME"]) / "keys.json").chmod(0o644)
    done = run("ask", "Why?", "-m", "gpt-6-luna", environment=home)

    assert (done.returncode, done.stdout) == (2, "")
    assert "run: chmod 600" in done.stderr


async def test_the_kept_default_is_asked(home: dict[str, str]) -> None:
    assert run("models", "default", "openai:gpt-9", environment=home).stdout == "openai:gpt-9\n"
    async with ProviderServer() as server:
        environment = {**server.environment(), **home, "DHENARA_ASYNC_MODEL": ""}
        process = await start("ask", "Why?", "--json", environment=environment)
        out, _err = await finish(process)
        first = await start("ask", "Why?", "--json", environment=server.environment())
        unnamed, _err = await finish(first)

    assert orjson.loads(out)["model"] == "gpt-9"
    assert orjson.loads(unnamed)["model"] == "claude-sonnet-5-5"  # nothing kept: the first provider with a key
    assert run("models", "default", "nobody-knows", environment=home).returncode == 2


def test_models_and_hosts_list_what_can_be_asked() -> None:
    environment = {"OPENAI_API_KEY": _KEY}
    listed = run("models", environment=environment).stdout.splitlines()
    lines = [orjson.loads(line) for line in run("models", "--json", environment=environment).stdout.splitlines()]
    hosts = {line["provider"]: line for line in map(orjson.loads, run("hosts", "--json").stdout.splitlines())}

    assert f"{GPT6Luna.model_name} · openai" in listed
    assert f"{ClaudeSonnet55.model_name} · anthropic, no key" in listed
    assert len(listed) == len(lines)
    assert {line["key"] for line in lines if line["provider"] == "openai"} == {True}
    assert hosts["groq"]["key_variables"] == ["GROQ_API_KEY"]
    assert hosts["ollama"]["key_required"] is False
