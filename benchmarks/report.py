"""Reports the results of all benchmarks: a plain table, the environment, a JSON file."""

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import orjson

RESULTS = Path(__file__).resolve().parent / "results"

_PACKAGES = (
    *("dhenara-async", "aiohttp", "orjson", "pydantic", "anyio", "uvloop"),
    *("openai", "anthropic", "google-genai", "httpx2", "litellm", "pydantic-ai-slim"),
    *("langchain-core", "langchain-openai", "langchain-anthropic", "langchain-google-genai"),
    *("sqlalchemy", "psycopg", "langgraph", "openai-agents"),
)


class Environment(TypedDict):
    """The environment of a benchmark: the interpreter, the machine, the versions of the peers."""

    python: str
    loop: str
    platform: str
    cores: int | None
    load_at_start: float
    packages: dict[str, str]


def environment(loop: str = "asyncio") -> Environment:
    """Read the environment, before the measurement adds to the load; ``loop`` is the kind of event loop."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": loop,
        "platform": platform.platform(terse=True),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def environment_line(facts: Environment) -> str:
    """Return the environment as one line."""
    machine = f"{facts['platform']}, {facts['cores']} cores, load {facts['load_at_start']} at the start"
    versions = ", ".join(f"{name} {found}" for name, found in facts["packages"].items())
    return f"{facts['python']}, {facts['loop']}, {machine}; {versions}"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> None:
    """Print aligned columns: the first ``left`` ones left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def write_json(path: Path, value: object) -> None:
    """Write ``value`` to ``path``, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print(f"written: {path}", file=sys.stderr)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
