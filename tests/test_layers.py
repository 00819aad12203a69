"""Imports run one way: a room imports lower floors only, and only some rooms may wait, log or open a socket."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "dhenara_async"

FLOORS = (
    {"errors", "value"},
    {"endpoint", "config", "messages", "framing"},
    {"models", "conversion"},
    {"response"},
    {"events", "request"},
    {"drivers", "accumulator", "conversation"},
    {"hosts", "transport"},
    {"formatter", "auth", "stores", "blocking"},
    {"stream"},
    {"client"},
    {"manager"},
    {"__init__"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Rooms that touch the world: they may await, wait, log and open sockets. All others are pure.
WORLDLY = {"transport", "auth", "stores", "blocking", "stream", "client", "manager", "testing", "cli", "__main__"}
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
        wrong += [f"{where}:{line} imports {name}" for line, name in imported(tree) if name.split(".")[0] in WORLD]
        wrong += [f"{where}:{node.lineno} is async" for node in ast.walk(tree) if isinstance(node, ast.AsyncFor)]
        if path.name != "__init__.py":  # an __init__ holds the drawer's protocols, which may promise to await
            wrong += [
                f"{where}:{node.lineno} is async" for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)
            ]
    assert wrong == []


def test_drivers_know_only_the_base() -> None:
    for path in sorted((PACKAGE / "drivers").glob("*.py")):
        modules = {module for _, module in imported(ast.parse(path.read_text(encoding="utf-8")))}
        own = {module for module in modules if module.startswith("dhenara_async.drivers")}
        assert own <= {"dhenara_async.drivers.base"}, path.name
