"""What importing the package costs: nothing but itself and what its data classes are made of."""

import subprocess
import sys

import pytest

import dhenara_async

HEAVY = (
    *("aiohttp", "httpx", "anyio", "typer", "rich", "click", "yarl", "genai_prices", "sqlalchemy", "mcp"),
    "opentelemetry",
    "sqlalchemy",
    "alembic",
    "psycopg",
    *("openai", "anthropic", "google.genai", "mistralai", "boto3"),
)

IMPORTS = {
    "the package": "import dhenara_async",
    "what a call is made of": (
        "from dhenara_async import AIModelAPI, AIModelCallConfig, AIModelClient, AIModelEndpoint"
    ),
    "a client, made": (
        "from dhenara_async import *\n"
        "api = AIModelAPI(provider=AIModelAPIProviderEnum.OPEN_AI, api_key='key')\n"
        "client = AIModelClient(AIModelEndpoint(api=api, ai_model=AIModel(model_name='m')), AIModelCallConfig())"
    ),
    "models and errors": "import dhenara_async.models.anthropic, dhenara_async.models.openai, dhenara_async.errors",
}


@pytest.mark.parametrize("code", [IMPORTS[name] for name in ("the package", "what a call is made of")])
def test_importing_loads_no_http_library(code: str) -> None:
    assert _loaded(code) == set()


def test_model_constants_and_errors_load_no_http_library() -> None:
    assert _loaded(IMPORTS["models and errors"]) == set()


def test_making_a_client_loads_no_http_library() -> None:
    code = IMPORTS["a client, made"].replace(
        "import *",
        "import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelCallConfig, AIModelClient, AIModelEndpoint",
    )
    assert _loaded(code) == set()


def _loaded(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has after running ``code``."""
    script = f"{code}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (run.stderr, run.returncode) == ("", 0)
    return set(run.stdout.split())


@pytest.mark.parametrize("name", dhenara_async.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(dhenara_async, name) is not None
    assert name in dir(dhenara_async)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AIModelKlient'"):
        _ = dhenara_async.AIModelKlient  # type: ignore[attr-defined]


EXTRAS = (
    "httpx",
    "httpx2",
    "h2",
    "filetype",
    "rich",
    "typer",
    "genai_prices",
    "docstring_parser",
    "ray",
    "mcp",
    "mcp_types",
    "opentelemetry",
    "sqlalchemy",
    "alembic",
    "psycopg",
)
PLAIN = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def _run_without_extras(code: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLAIN + code], capture_output=True, text=True, check=False
    )
    assert (run.stderr, run.returncode) == ("", 0)
    return run.stdout.splitlines()


def test_a_star_import_works_without_extras() -> None:
    code = "from dhenara_async import *\nimport dhenara_async\nprint(set(dhenara_async.__all__) <= set(globals()))"
    assert _run_without_extras(code) == ["True"]


def test_tab_completion_works_without_extras() -> None:
    code = (
        "import dhenara_async, rlcompleter\n"
        "completer = rlcompleter.Completer({'dhenara_async': dhenara_async})\n"
        "print(completer.complete('dhenara_async.Http', 0), completer.complete('dhenara_async.Aio', 0))\n"
    )
    (line,) = _run_without_extras(code)
    assert "dhenara_async.HttpxTransport" in line
    assert "dhenara_async.AiohttpTransport" in line


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    code = (
        "from dhenara_async import HttpxTransport, OpenTelemetryObserver\n"
        "from dhenara_async.errors import DhenaraError, MissingExtraError\n"
        "for make in (lambda: HttpxTransport(object()), OpenTelemetryObserver):\n"
        "    try:\n"
        "        make()\n"
        "    except MissingExtraError as exc:\n"
        "        print(exc)\n"
        "        print(exc.extra, isinstance(exc, DhenaraError), isinstance(exc, ImportError))\n"
    )
    assert _run_without_extras(code) == [
        "HttpxTransport needs the extra 'httpx': pip install 'dhenara-async[httpx]'",
        "httpx True True",
        "OpenTelemetryObserver needs the extra 'otel': pip install 'dhenara-async[otel]'",
        "otel True True",
    ]


def test_a_server_of_tools_is_made_without_the_extra_and_names_it_when_it_is_used() -> None:
    code = (
        "import asyncio, sys\n"
        "from dhenara_async import AIModelCallConfig, McpServer, ToolCallPart, run_tools\n"
        "from dhenara_async.errors import MissingExtraError\n"
        "config = AIModelCallConfig(tools=[McpServer.stdio('server')])\n"
        "call = ToolCallPart(call_id='1', name='server__tool')\n"
        "try:\n"
        "    asyncio.run(run_tools([call], config.tools))\n"
        "except MissingExtraError as exc:\n"
        "    print(exc)\n"
    )
    assert _run_without_extras(code) == ["McpServer needs the extra 'mcp': pip install 'dhenara-async[mcp]'"]


def test_the_extra_of_a_database_is_named_by_its_address() -> None:
    code = (
        "import asyncio\n"
        "from dhenara_async import ConversationManager\n"
        "from dhenara_async.errors import MissingExtraError\n"
        "async def enter(address):\n"
        "    async with ConversationManager(store=address):\n"
        "        pass\n"
        "for address in ('chat.db', 'postgres.db', 'postgresql://localhost/chat', 'postgres://localhost/chat'):\n"
        "    for use in (lambda: ConversationManager(store=address), lambda: asyncio.run(enter(address))):\n"
        "        try:\n"
        "            use()\n"
        "        except MissingExtraError as exc:\n"
        "            print(exc.extra)\n"
    )
    assert _run_without_extras(code) == [*["sql"] * 4, *["postgres"] * 4]
