"""The front door: what it names exists, is sorted, and is what type-checkers are told."""

import ast
from pathlib import Path

import dhenara_async
import dhenara_async.events
import dhenara_async.plans.targets
import dhenara_async.tools.functions

ALIASES = {
    "StreamEvent": dhenara_async.events.StreamEvent,
    "Target": dhenara_async.plans.targets.Target,
    "ToolContext": dhenara_async.tools.functions.ToolContext,
}


def test_all_is_sorted_and_whole() -> None:
    assert dhenara_async.__all__ == sorted(dhenara_async.__all__)
    for name in dhenara_async.__all__:
        value = getattr(dhenara_async, name)
        if name in ALIASES:
            assert value is ALIASES[name]
        else:
            assert value.__name__ == name


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(dhenara_async.__file__).read_text(encoding="utf-8"))
    promised = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dhenara_async.")
        for alias in node.names
    }
    assert promised == set(dhenara_async.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(dhenara_async, "AIModelKlient")
    assert set(dhenara_async.__all__) < set(dir(dhenara_async))
