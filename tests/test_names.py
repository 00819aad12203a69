"""Names and docstrings of the package: a type name stands for one thing, with or without an underscore."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "dhenara_async"


def type_names(tree: ast.Module) -> Iterator[str]:
    """The classes and type aliases of a file without leading underscores; type variables are not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_")
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if not is_type_variable(value):
                plain = name.lstrip("_")
                if plain[:1].isupper() and not plain.isupper():
                    yield plain
            case _:
                pass


def is_type_variable(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in {"TypeVar", "ParamSpec"}
    )


def test_every_type_name_is_defined_once() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in type_names(ast.parse(path.read_text(encoding="utf-8"))):
            files[name].append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in files.items() if len(found) > 1} == {}


def test_docstrings_can_be_encoded() -> None:
    """Python 3.14 refuses to compile a docstring with half a surrogate pair; write it in a raw string."""
    for folder in (PACKAGE, Path(__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    (ast.get_docstring(node) or "").encode()
