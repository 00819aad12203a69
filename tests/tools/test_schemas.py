"""Schemas in each target's subset: what is rewritten keeps its meaning, what cannot be held to is refused by name."""

import datetime
import decimal
import enum
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import pytest
from jsonschema import Draft202012Validator, validate
from jsonschema import ValidationError as JsonSchemaError
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

from dhenara_async import AIModelCallConfig
from dhenara_async.drivers.anthropic_messages.schema import anthropic_schema
from dhenara_async.drivers.gemini.schema import gemini_schema
from dhenara_async.drivers.openai_schema import fits_openai_strict, openai_schema
from dhenara_async.errors import ConfigurationError, UnsupportedError
from dhenara_async.tools.schemas import JsonSchema, output_schema, restored

Rewrite = Callable[[JsonSchema], JsonSchema]
TARGETS: dict[str, Rewrite] = {"openai": openai_schema, "anthropic": anthropic_schema, "gemini": gemini_schema}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    """A cat."""

    kind: Literal["cat"] = "cat"
    lives: int = Field(gt=0, lt=10)


class Dog(BaseModel):
    kind: Literal["dog"]
    bark: str = Field(min_length=2, max_length=8, pattern="^w")


class Owner(BaseModel):
    """Somebody with animals."""

    title: str
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Field(description="the one at home")
    best: Cat = Field(description="the best of all")
    other: Dog | None = None
    tags: set[str] = Field(default_factory=set[str])
    number: int = 5
    ratio: float = Field(default=0.5, gt=0)
    colour: Colour = Colour.BLUE
    born: datetime.date
    id: uuid.UUID
    price: decimal.Decimal
    true: Literal[True] = True
    choice: Literal["a", 1, None]
    items: list[Cat] = Field(min_length=2, max_length=4)


class Node(BaseModel):
    name: str
    children: "list[Node]" = []
    parent: "Node | None" = Field(default=None, description="the one above")


OWNER = Owner(
    title="Ms",
    pet=Dog(kind="dog", bark="wuff"),
    best=Cat(lives=9),
    tags={"x"},
    born=datetime.date(2000, 1, 2),
    id=uuid.UUID(int=7),
    price=decimal.Decimal("1.50"),
    choice=None,
    items=[Cat(lives=1), Cat(lives=2)],
)
NODE = Node(name="a", children=[Node(name="b", children=[Node(name="c")])], parent=Node(name="z"))


def schema_of(model: type[BaseModel]) -> JsonSchema:
    return model.model_json_schema()


def check(schema: JsonSchema, value: JsonValue) -> bool:
    try:
        validate(value, schema, cls=Draft202012Validator)
    except JsonSchemaError:
        return False
    return True


def subschemas(schema: JsonValue) -> Iterator[JsonSchema]:
    """Every schema in ``schema``, itself first."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key in {"properties", "$defs"} and isinstance(value, dict):
                for member in value.values():
                    yield from subschemas(member)
            elif key in {"items", "additionalProperties"}:
                yield from subschemas(value)
            elif key in {"anyOf", "prefixItems"} and isinstance(value, list):
                for member in value:
                    yield from subschemas(member)


COMMON = {"type", "description", "enum", "properties", "required", "additionalProperties", "items", "anyOf"}
NUMERIC = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
KEYWORDS = {
    "openai": COMMON | NUMERIC | {"$ref", "$defs", "title", "const", "pattern", "format", "minItems", "maxItems"},
    "anthropic": COMMON | {"$ref", "$defs", "title", "const", "format", "minItems"},
    "gemini": COMMON | {"$ref", "$defs", "prefixItems", "format", "minItems", "maxItems", "minimum", "maximum"},
}

# ------------------------------------------------------------------------------------------------ rewritten


@pytest.mark.parametrize(
    ("instance", "target"),
    [(OWNER, "openai"), (OWNER, "anthropic"), (OWNER, "gemini"), (NODE, "openai"), (NODE, "gemini")],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_a_value_of_the_model_is_valid_under_the_rewritten_schema(instance: BaseModel, target: str) -> None:
    original = schema_of(type(instance))
    value = instance.model_dump(mode="json")
    assert check(original, value)
    assert check(TARGETS[target](original), value)


@pytest.mark.parametrize("target", TARGETS)
def test_only_words_the_target_knows_are_left(target: str) -> None:
    for schema in subschemas(TARGETS[target](schema_of(Owner))):
        assert schema.keys() <= KEYWORDS[target]
        if "$ref" in schema:
            assert len(schema) == 1  # no target takes anything beside it
        if target != "gemini" and schema.get("type") == "object":
            assert schema["additionalProperties"] is False
        if target == "openai" and "properties" in schema:
            properties = schema["properties"]
            assert isinstance(properties, dict)
            assert schema["required"] == list(properties)
        if target == "anthropic":
            assert schema.get("minItems", 0) in (0, 1)


@pytest.mark.parametrize("model", [Cat, Dog, Owner, Node])
def test_openai_requires_what_its_own_sdk_requires(model: type[BaseModel]) -> None:
    ours, theirs = openai_schema(schema_of(model)), to_strict_json_schema(model)
    theirs = (
        openai_schema(theirs) if "$ref" in theirs else theirs
    )  # the SDK leaves the top of a recursive one a pointer
    assert ours["required"] == theirs["required"]
    assert ours.get("$defs", {}).keys() == theirs.get("$defs", {}).keys()  # type: ignore[union-attr] - both objects


def test_what_is_not_enforced_is_told_and_still_checked_on_arrival() -> None:
    bark = anthropic_schema(schema_of(Dog))["properties"]["bark"]  # type: ignore[call-overload,index]
    assert bark == {
        "title": "Bark",
        "type": "string",
        "description": '(maxLength: 8, minLength: 2, pattern: "^w")',  # in the order they came in, whatever the hash
    }


def test_a_description_beside_a_pointer_is_kept() -> None:
    for rewrite in TARGETS.values():
        best = rewrite(schema_of(Owner))["properties"]["best"]  # type: ignore[call-overload,index]
        assert best["description"] == "the best of all"  # type: ignore[call-overload,index]
        assert "lives" in best["properties"]  # type: ignore[operator,call-overload,index]


def test_a_member_called_title_is_not_a_title() -> None:
    for rewrite in TARGETS.values():
        assert "title" in rewrite(schema_of(Owner))["properties"]  # type: ignore[operator]


def test_gemini_gets_whole_bounds_and_single_values_as_enums() -> None:
    lives = gemini_schema(schema_of(Cat))["properties"]["lives"]  # type: ignore[call-overload,index]
    assert lives == {"type": "integer", "minimum": 1, "maximum": 9}
    kind = gemini_schema(schema_of(Dog))["properties"]["kind"]  # type: ignore[call-overload,index]
    assert kind == {"type": "string", "enum": ["dog"]}


OPTIONAL: JsonSchema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "description": "in years"},
        "size": {"enum": ["s", "m"]},
        "home": {"$ref": "#/$defs/home"},
        "nick": {"type": ["string", "null"]},
        "count": {"type": "integer", "default": 3},
        "list": {"type": "array", "items": {"$ref": "#/$defs/home"}},
    },
    "required": ["name"],
    "$defs": {"home": {"type": "object", "properties": {"city": {"type": "string"}}}, "unused": {"type": "object"}},
}


def test_openai_may_leave_optional_members_null_and_the_nulls_go_again() -> None:
    rewritten = openai_schema(OPTIONAL)
    assert fits_openai_strict(OPTIONAL)
    assert rewritten["$defs"].keys() == {"home"}  # type: ignore[union-attr]
    answer: JsonSchema = {
        "name": "n",
        "age": None,
        "size": None,
        "home": {"city": None},
        "nick": None,
        "count": 4,
        "list": [{"city": None}, {"city": "x"}],
    }
    assert check(rewritten, answer)
    assert not check(OPTIONAL, answer)
    lean = restored(OPTIONAL, answer)
    assert check(OPTIONAL, lean)
    assert lean == {"name": "n", "home": {}, "nick": None, "count": 4, "list": [{}, {"city": "x"}]}


def test_what_is_required_or_may_be_null_is_not_taken_away() -> None:
    schema: JsonSchema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}
    assert restored(schema, {"a": None, "b": None, "c": None}) == {"a": None, "b": None, "c": None}


def test_all_of_is_merged_where_that_says_the_same() -> None:
    schema: JsonSchema = {
        "allOf": [
            {"$ref": "#/$defs/named"},
            {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]},
        ],
        "$defs": {"named": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}},
    }
    for rewrite in TARGETS.values():
        rewritten = rewrite(schema)
        assert rewritten["required"] == ["a", "b"]
        assert check(rewritten, {"a": "x", "b": 1})
        assert not check(rewritten, {"a": "x"})


def test_the_callers_schema_is_left_alone() -> None:
    original = schema_of(Owner)
    before = orjson.dumps(original)
    for rewrite in TARGETS.values():
        first = orjson.dumps(rewrite(original))
        assert orjson.dumps(rewrite(original)) == first
    assert orjson.dumps(original) == before


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import orjson; from tests.tools.test_schemas import TARGETS, Owner\n"
        "print([orjson.dumps(rewrite(Owner.model_json_schema())) for rewrite in TARGETS.values()])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


# ------------------------------------------------------------------------------------------------ refused


class Free(BaseModel):
    numbers: dict[str, int]


class AnyThing(BaseModel):
    value: Any


class Pair(BaseModel):
    pair: tuple[int, str]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


LOGIC: JsonSchema = {"type": "object", "properties": {"a": {"type": "string", "not": {"const": "x"}}}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (schema_of(Free), "numbers is an object with keys that are not named"),
        (schema_of(AnyThing), "value may be of any type"),
        (schema_of(Pair), "pair is an array with a schema for each place"),
        (LOGIC, "a uses 'not'"),
    ],
)
def test_what_cannot_be_held_to(schema: JsonSchema, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        anthropic_schema(schema)
    assert not fits_openai_strict(schema)
    assert openai_schema(schema)["properties"] == schema["properties"]  # sent as it is, without strict
    value: JsonValue = {"numbers": {"x": 1}, "value": 1, "pair": [1, "x"], "a": "y"}
    assert check(schema, value)
    assert check(gemini_schema(schema), value)


def test_anthropic_refuses_what_contains_itself() -> None:
    with pytest.raises(UnsupportedError, match="Node contains itself"):
        anthropic_schema(schema_of(Node))


def test_an_object_that_lets_more_in_is_closed_where_it_has_to_be() -> None:
    assert anthropic_schema(schema_of(Open))["additionalProperties"] is False
    assert fits_openai_strict(schema_of(Open))
    assert gemini_schema(schema_of(Open))["additionalProperties"] is True


def test_a_choice_at_the_top_is_no_object() -> None:
    schema: JsonSchema = {"anyOf": [schema_of(Cat), schema_of(Dog)]}
    assert not fits_openai_strict(schema)
    with pytest.raises(UnsupportedError, match="root is an object"):
        openai_schema(schema)


@pytest.mark.parametrize("rewrite", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("reference", ["https://example.com/x.json", "#/$defs/gone", "#anchor"])
def test_a_pointer_to_nowhere_is_refused(rewrite: Rewrite, reference: str) -> None:
    schema: JsonSchema = {"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": reference}}}}
    if rewrite is openai_schema:
        assert not fits_openai_strict(schema)
    else:
        with pytest.raises(UnsupportedError, match="which is not among its definitions"):
            rewrite(schema)


# ------------------------------------------------------------------------------------------------ what a call asks for


def test_nothing_asked_for() -> None:
    assert output_schema(AIModelCallConfig()) is None


def test_the_name_is_one_that_every_wire_takes() -> None:
    asked = output_schema(AIModelCallConfig(structured_output={"title": "Größe (cm) " * 9, "type": "object"}))
    assert asked is not None
    assert asked.name == ("Gr__e__cm__" * 9)[:64]
    assert asked.model is None
    named = output_schema(AIModelCallConfig(structured_output=Owner))
    assert named is not None
    assert (named.name, named.model) == ("Owner", Owner)
    unnamed = output_schema(AIModelCallConfig(structured_output={"type": "object"}))
    assert unnamed is not None
    assert unnamed.name == "answer"


def test_a_recursive_top_is_written_out() -> None:
    asked = output_schema(AIModelCallConfig(structured_output=Node))
    assert asked is not None
    assert asked.schema["type"] == "object"
    assert check(asked.schema, NODE.model_dump(mode="json"))


class Numbers(RootModel[list[int]]):
    pass


@pytest.mark.parametrize("wanted", [Numbers, {"type": "array", "items": {}}, {"anyOf": [{"type": "object"}]}])
def test_structured_output_is_an_object(wanted: type[BaseModel] | JsonSchema) -> None:
    with pytest.raises(ConfigurationError, match="an object as its root"):
        output_schema(AIModelCallConfig(structured_output=wanted))


class Callback(BaseModel):
    call: Callable[[], int]


def test_a_class_that_is_no_schema() -> None:
    with pytest.raises(ConfigurationError, match="Callback has no JSON schema"):
        output_schema(AIModelCallConfig(structured_output=Callback))
