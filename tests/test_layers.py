"""Imports run one way: a room imports lower floors only, and only some rooms may wait, log or open a socket."""

import ast
from collections.abc import Iterator
from pathlib import Path

from dhenara_async import Dialect

PACKAGE = Path(__file__).parent.parent / "dhenara_async"

FLOORS = (
    {"descriptions", "errors", "lenient_json"},
    {"value"},
    {"addresses", "bounds", "headers", "usage"},
    {"prices"},
    {"endpoint", "framing", "media", "schemas", "signatures"},
    {"tools"},
    {"config", "messages", "models"},
    {"conversion", "file_urls", "rules", "structured"},
    {"response"},
    {"events", "request", "targets"},
    {"drivers", "accumulator", "conversation"},
    {"blame", "budget", "health", "hosts", "limits", "retry", "transport", "window"},
    {"forms", "links", "means", "signing", "split_characters"},
    {"reading"},
    {"formatter", "auth", "stores", "blocking", "deadlines", "fetch", "step", "toolbox", "attachments"},
    {"feed"},
    {"plans", "stream"},
    {"caller"},
    {"warming"},
    {"client"},
    {"fanout", "turn"},
    {"manager"},
    {"__init__"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Rooms that touch the world: they may await, wait, log and open sockets. All others are pure.
WORLDLY = {
    "attachments",
    "toolbox",
    "transport",
    "auth",
    "stores",
    "blocking",
    "deadlines",
    "feed",
    "fetch",
    "health",
    "limits",
    "plans",
    "step",
    "stream",
    "caller",
    "warming",
    "client",
    "fanout",
    "turn",
    "manager",
    "testing",
    "cli",
    "__main__",
}
# Pure rooms with numbers that threads share: they may hold a lock, and nothing else of the world.
SHARED = {"budget", "retry"}
WORLD = {"asyncio", "aiohttp", "anyio", "time", "logging", "socket", "threading", "subprocess"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every imported module with its line, function-level imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            module = node.module or ""
            if module == "dhenara_async":
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path, _ in sources()} == set(FLOOR_OF)


def test_imports_run_down() -> None:
    wrong: list[str] = []
    for path, tree in sources():
        room = room_of(path)
        for line, module in imported(tree):
            if module.partition(".")[0] != "dhenara_async":
                continue
            parts = module.split(".")
            other = parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else "__init__"
            if other != room and FLOOR_OF[other] >= FLOOR_OF[room]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert wrong == []


def test_pure_rooms_stay_pure() -> None:
    wrong: list[str] = []
    for path, tree in sources():
        if room_of(path) in WORLDLY:
            continue
        where = path.relative_to(PACKAGE)
        world = WORLD - {"threading"} if room_of(path) in SHARED else WORLD
        wrong += [f"{where}:{line} imports {name}" for line, name in imported(tree) if name.split(".")[0] in world]
        wrong += [f"{where}:{node.lineno} is async" for node in ast.walk(tree) if isinstance(node, ast.AsyncFor)]
        if path.name != "__init__.py":  # an __init__ holds the drawer's protocols, which may promise to await
            wrong += [
                f"{where}:{node.lineno} is async" for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)
            ]
    assert wrong == []


def test_dialects_do_not_know_each_other() -> None:
    """The files of a dialect bear its name (``gemini.py``, ``gemini_decode.py``); beside them they know what is shared,
    which knows no dialect."""
    shared = {"base", "parts", "failures", "native"}
    drawer = "dhenara_async.drivers."
    for path in sorted((PACKAGE / "drivers").glob("*.py")):
        own = next((f"{dialect}" for dialect in Dialect if path.stem.startswith(dialect)), None)
        assert own or path.stem in {*shared, "__init__"}, path.name
        modules = {module for _, module in imported(ast.parse(path.read_text(encoding="utf-8")))}
        others = {module.removeprefix(drawer) for module in modules if module.startswith(drawer)}
        assert all(other in shared or (own and other.startswith(own)) for other in others), path.name
