"""Imports run one way: a room imports lower floors only, and only some rooms may wait, log or open a socket.

A room is a module or a folder of the package. Where a file of a folder stands on another floor than the rest of it, the
table names the file; everything else in the folder stands where the folder does.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from dhenara_async import Dialect

PACKAGE = Path(__file__).parent.parent / "dhenara_async"

FLOORS = (
    {"errors", "formatter.markdown", "framing.lenient_json", "tools.deadline", "tools.descriptions", "tools.samples"},
    {"frozen"},
    {"hosts.addresses", "hosts.headers", "usage"},
    {"tools.schema_reading", "usage.prices"},
    {
        *("endpoint", "framing", "messages.media", "tools.functions", "tools.mcp.server"),
        *("tools.schema_answers", "tools.schema_rewriting", "tools.schemas"),
    },
    {"tools"},
    {"config", "messages", "models"},
    {
        *("downloads.file_urls", "drivers.rules", "formatter.conversion", "hosts.names", "messages.dicts"),
        "tools.structured",
    },
    {"response"},
    {"events", "plans.targets", "request"},
    {"calls.accumulator", "calls.text", "conversation", "drivers", "hosts.auth", "tools.sources"},
    {"tools.mcp", "tools.policy"},
    {
        *(
            "calls.health",
            "calls.retry",
            "drivers.reasoning_refusals",
            "formatter.window",
            "hosts",
            "limits",
        ),
        *("tools.loop", "tools.sessions", "transport", "usage.budget"),
    },
    {"calls.records"},
    {"calls.checks", "calls.observer", "calls.partial_usage", "calls.timing"},
    {
        *("calls.forms", "calls.observed", "calls.paused_answers", "calls.shared", "calls.split_characters"),
        *("downloads.inlining", "stores.signing"),
    },
    {"calls.body", "calls.observed_endpoint", "calls.observed_loop", "calls.telemetry"},
    {
        *("calls.blocking", "calls.deadlines", "calls.step", "downloads", "formatter"),
        *("messages.attachments", "stores", "tools.run"),
    },
    {"calls.call", "calls.input", "tools.runner"},
    {"calls.attempts", "calls.preview", "calls.sent_request"},
    {"calls.source"},
    {"calls.listing", "calls.loop_steps", "calls.stream", "plans"},
    {"calls.loop", "calls.prepare"},
    {"calls.client_loop", "calls.warmup"},
    {"client"},
    {"fanout"},
    {"turns"},
    {"usage.budgeted_client"},
    {"manager"},
    {"web.frames", "web.inputs"},
    {"web.feeds"},
    {"web.responses", "web.sending"},
    {"web.chat"},
    {"web.openai", "web.playground"},
    {"web.serving"},
    {"web"},
    {"__init__"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Rooms that touch the world: they may await, wait, log and open sockets. All others are pure.
WORLDLY = {
    *("calls.blocking", "client", "cli", "fanout", "manager", "stores", "testing", "transport", "turns"),
    *(
        "calls.attempts",
        "calls.call",
        "calls.client_loop",
        "calls.deadlines",
        "calls.health",
        "calls.loop",
        "calls.loop_steps",
        "calls.observed",
    ),
    *("calls.observed_endpoint", "calls.observed_loop", "calls.telemetry"),
    *("calls.prepare", "calls.sent_request", "calls.source", "calls.step", "calls.stream", "calls.text"),
    *("calls.timing", "calls.warmup", "downloads", "hosts.auth", "limits", "messages.attachments"),
    *("calls.listing", "tools.deadline", "tools.mcp", "tools.runner", "tools.sessions"),
    *("plans", "tools.run", "tools.sources", "usage.budgeted_client", "__main__"),
    *("web", "web.chat", "web.openai", "web.playground", "web.serving", "web.feeds", "web.sending"),
}
# Pure rooms with numbers that threads share: they may hold a lock, and nothing else of the world.
SHARED = {"calls.retry", "usage.budget"}
WORLD = {"asyncio", "aiohttp", "anyio", "time", "logging", "socket", "threading", "subprocess"}


def name_of(path: Path) -> str:
    """The dotted name of a file within the package; that of its folder for an ``__init__.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def room_of(name: str) -> str | None:
    """The room that a dotted name stands in: the longest beginning of the name that the table has."""
    parts = name.split(".")
    return next((room for end in range(len(parts), 0, -1) if (room := ".".join(parts[:end])) in FLOOR_OF), None)


def sources() -> Iterator[tuple[Path, str, ast.Module]]:
    """Every file with its room; folders without code of their own have none."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        room = room_of(name_of(path))
        if room is not None:
            yield path, room, tree
        else:
            assert path.name == "__init__.py", path
            assert ast.get_docstring(tree), path
            assert len(tree.body) == 1, path


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every imported module or name with its line, function-level imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_every_room_is_there_and_has_a_floor() -> None:
    found = {room for _, room, _ in sources()}
    assert found == set(FLOOR_OF)


def test_imports_run_down() -> None:
    wrong: list[str] = []
    for path, room, tree in sources():
        for line, module in imported(tree):
            if module.partition(".")[0] != "dhenara_async":
                continue
            other = room_of(module.partition(".")[2]) or "__init__"
            if other != room and FLOOR_OF[other] >= FLOOR_OF[room]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert wrong == []


def test_pure_rooms_stay_pure() -> None:
    wrong: list[str] = []
    for path, room, tree in sources():
        if room in WORLDLY:
            continue
        where = path.relative_to(PACKAGE)
        world = WORLD - {"threading"} if room in SHARED else WORLD
        wrong += [f"{where}:{line} imports {name}" for line, name in imported(tree) if name.split(".")[0] in world]
        wrong += [f"{where}:{node.lineno} is async" for node in ast.walk(tree) if isinstance(node, ast.AsyncFor)]
        if path.name != "__init__.py":  # an __init__ holds the drawer's protocols, which may promise to await
            wrong += [
                f"{where}:{node.lineno} is async" for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)
            ]
    assert wrong == []


def test_dialects_do_not_know_each_other() -> None:
    """A dialect is a folder in ``drivers``. Its files know the files beside the folders, which know no dialect."""
    dialects = {dialect.value for dialect in Dialect}
    drawer = "dhenara_async.drivers."
    for path in sorted((PACKAGE / "drivers").rglob("*.py")):
        own = path.parent.name if path.parent.name in dialects else None
        modules = {module for _, module in imported(ast.parse(path.read_text(encoding="utf-8")))}
        others = {module.removeprefix(drawer).split(".")[0] for module in modules if module.startswith(drawer)}
        assert others & dialects <= {own}, path


def test_the_root_can_be_read_at_a_glance() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name not in {"__pycache__", "AGENTS.md"}}
    assert len(entries) <= 32
