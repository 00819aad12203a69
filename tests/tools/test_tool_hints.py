"""Type hints of tools: only the hints of parameters are read, with the descriptions inside them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Required

import pytest
from pydantic import BaseModel, Field
from typing_extensions import Doc, TypedDict

from dhenara_async import AIModelCallConfig, Tool, ToolCallPart
from dhenara_async.errors import ConfigurationError
from dhenara_async.tools.schemas import output_schema

if TYPE_CHECKING:
    Orchard = str | int
    Report = str


def picked(count: int, orchard: Orchard, /, when: str = "now") -> Report:
    """Pick apples."""
    return f"{count} of {orchard} {when}"


def weighed(count: int, *, orchard: Orchard, scale: list[Orchard] | None = None) -> Report:
    return f"{count} of {orchard} {scale}"


class Picker:
    def __init__(self, orchard: Orchard | None = None) -> None:
        self.orchard = orchard

    def __call__(self, count: int) -> Report:
        return str(count)

    async def later(self, count: int) -> Report:
        return str(count)


def properties(tool: Tool) -> dict[str, Any]:
    found = tool.parameters["properties"]
    assert isinstance(found, dict)
    return found


# ------------------------------------------------------------------------------------------------ hints of parameters


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (functools.partial(weighed, orchard="north", scale=None), ["count"]),
        (functools.partial(functools.partial(weighed, scale=None), orchard="north"), ["count"]),
        (functools.partial(picked, 3, "north"), ["when"]),
        (functools.partial(Picker, orchard=None), []),
        (Picker(), ["count"]),
        (Picker().later, ["count"]),
    ],
)
def test_unreadable_hints_outside_the_parameters_are_not_read(
    function: Callable[..., object], wanted: list[str]
) -> None:
    tool = Tool.from_function(function)
    assert list(properties(tool)) == wanted
    assert AIModelCallConfig(tools=[function]).tools[0] == tool


def test_a_tool_with_unreadable_hints_of_bound_arguments_runs() -> None:
    tool = Tool.from_function(functools.partial(weighed, orchard="north", scale=None))
    call = ToolCallPart(call_id="1", name="weighed", arguments='{"count": 4}')
    assert tool.bind(call)() == "4 of north None"


@pytest.mark.parametrize(
    ("function", "parameter"),
    [(picked, "orchard"), (functools.partial(weighed, orchard=1), "scale"), (Picker, "orchard")],
)
def test_an_unreadable_hint_of_a_parameter_is_refused_by_name(function: Callable[..., object], parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the parameter '{parameter}' of .* cannot be read"):
        Tool.from_function(function)


def test_a_model_with_an_unreadable_hint_is_refused() -> None:
    class Crate(BaseModel):
        orchard: Orchard

    with pytest.raises(ConfigurationError, match="Crate has no JSON schema"):
        Tool.from_model(Crate)


# ------------------------------------------------------------------------------------------------ descriptions in hints


class Note:
    """An annotation with a ``documentation`` text, like ``Doc``."""

    documentation = "how sweet"


class Apple(TypedDict):
    sort: Annotated[str, "which sort"]
    sweet: NotRequired[Annotated[int, Note()]]
    ripe: Required[bool]


@dataclasses.dataclass
class Tree:
    height: Annotated[float, Doc("in metres")]
    apple: Apple


class Grove(BaseModel):
    """Trees."""

    name: Annotated[str, "what people call it"] = Field(alias="label")
    trees: Annotated[list[Tree], Doc("every tree,\n    oldest first")]
    best: Annotated[Tree | None, Field(description="the best"), "not this"] = None
    owner: Annotated[str, "who has it"] | None = None
    plain: int = 0


def planted(
    grove: Annotated[Grove, "where to"],
    count: Annotated[int, Doc("how many"), Field(gt=0)],
    sort: Annotated[str, Field(description="the sort"), Doc("not this")],
    note: Annotated[str, "a note"] | None = None,
    blank: Annotated[int, " "] = 1,
) -> None:
    """Plant trees.

    Args:
        grove: Not this.
        count: Nor this.
        blank: From here.
    """
    del grove, count, sort, note, blank


def test_texts_in_hints_describe_parameters() -> None:
    tool = Tool.from_function(planted)
    told = {name: member.get("description") for name, member in properties(tool).items()}
    assert told == {
        "grove": "where to",
        "count": "how many",
        "sort": "the sort",
        "note": "a note",
        "blank": "From here.",
    }
    assert properties(tool)["count"]["exclusiveMinimum"] == 0


@pytest.mark.parametrize("way", ["tool", "output", "config"])
def test_texts_in_hints_describe_members_at_any_depth(way: str) -> None:
    config = AIModelCallConfig(structured_output=Grove)
    asked = output_schema(config)
    assert asked is not None
    kept = config.model_dump(mode="json")["structured_output"]
    schema: dict[str, Any] = {"tool": Tool.from_model(Grove).parameters, "output": asked.schema, "config": kept}[way]
    told = {name: member.get("description") for name, member in schema["properties"].items()}
    assert told == {
        "label": "what people call it",
        "trees": "every tree, oldest first",
        "best": "the best",
        "owner": "who has it",
        "plain": None,
    }
    tree, apple = schema["$defs"]["Tree"]["properties"], schema["$defs"]["Apple"]["properties"]
    assert tree["height"]["description"] == "in metres"
    assert [member.get("description") for member in apple.values()] == ["which sort", "how sweet", None]
