"""Schemas rewritten to the subset of each target: values stay valid, and unsupported schemas are refused by name."""

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
from dhenara_async.tools.schema_answers import restored
from dhenara_async.tools.schema_reading import JsonSchema
from dhenara_async.tools.schemas import output_schema

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
    """An owner of animals."""

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
def test_a_model_instance_is_valid_under_the_rewritten_schema(instance: BaseModel, target: str) -> None:
    original = schema_of(type(instance))
    value = instance.model_dump(mode="json")
    assert check(original, value)
    assert check(TARGETS[target](original), value)


@pytest.mark.parametrize("target", TARGETS)
def test_a_rewritten_schema_has_only_keywords_of_its_target(target: str) -> None:
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
def test_openai_schema_requires_the_same_members_as_the_openai_sdk(model: type[BaseModel]) -> None:
    ours, theirs = openai_schema(schema_of(model)), to_strict_json_schema(model)
    theirs = (
        openai_schema(theirs) if "$ref" in theirs else theirs
    )  # the SDK leaves the top of a recursive one a pointer
    assert ours["required"] == theirs["required"]
    assert ours.get("$defs", {}).keys() == theirs.get("$defs", {}).keys()  # type: ignore[union-attr] - both objects


def test_unsupported_constraints_move_to_the_description_for_anthropic() -> None:
    bark = anthropic_schema(schema_of(Dog))["properties"]["bark"]  # type: ignore[call-overload,index]
    assert bark == {
        "title": "Bark",
        "type": "string",
        "description": '(maxLength: 8, minLength: 2, pattern: "^w")',  # in the order of the schema, for any hash seed
    }


def test_a_description_beside_a_reference_is_kept() -> None:
    for rewrite in TARGETS.values():
        best = rewrite(schema_of(Owner))["properties"]["best"]  # type: ignore[call-overload,index]
        assert best["description"] == "the best of all"  # type: ignore[call-overload,index]
        assert "lives" in best["properties"]  # type: ignore[operator,call-overload,index]


def test_a_member_named_title_is_kept() -> None:
    for rewrite in TARGETS.values():
        assert "title" in rewrite(schema_of(Owner))["properties"]  # type: ignore[operator]


def test_gemini_schema_has_inclusive_bounds_and_enums_for_constants() -> None:
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


def test_optional_members_are_nullable_for_openai_and_restored_drops_their_nulls() -> None:
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


def test_restored_keeps_nulls_of_required_nullable_and_unknown_members() -> None:
    schema: JsonSchema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}
    assert restored(schema, {"a": None, "b": None, "c": None}) == {"a": None, "b": None, "c": None}


def test_all_of_with_disjoint_objects_is_merged() -> None:
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


def test_rewriting_does_not_change_the_given_schema() -> None:
    original = schema_of(Owner)
    before = orjson.dumps(original)
    for rewrite in TARGETS.values():
        first = orjson.dumps(rewrite(original))
        assert orjson.dumps(rewrite(original)) == first
    assert orjson.dumps(original) == before


def test_rewritten_schemas_are_equal_under_other_hash_seeds() -> None:
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
def test_anthropic_and_openai_strict_refuse_unsupported_schemas(schema: JsonSchema, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        anthropic_schema(schema)
    assert not fits_openai_strict(schema)
    assert openai_schema(schema)["properties"] == schema["properties"]  # sent as it is, without strict
    value: JsonValue = {"numbers": {"x": 1}, "value": 1, "pair": [1, "x"], "a": "y"}
    assert check(schema, value)
    assert check(gemini_schema(schema), value)


def test_anthropic_refuses_a_recursive_schema() -> None:
    with pytest.raises(UnsupportedError, match="Node contains itself"):
        anthropic_schema(schema_of(Node))


def test_an_open_object_is_closed_for_targets_that_require_closed_objects() -> None:
    assert anthropic_schema(schema_of(Open))["additionalProperties"] is False
    assert fits_openai_strict(schema_of(Open))
    assert gemini_schema(schema_of(Open))["additionalProperties"] is True


def test_any_of_at_the_root_is_refused_for_openai() -> None:
    schema: JsonSchema = {"anyOf": [schema_of(Cat), schema_of(Dog)]}
    assert not fits_openai_strict(schema)
    with pytest.raises(UnsupportedError, match="root is an object"):
        openai_schema(schema)


@pytest.mark.parametrize("rewrite", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("reference", ["https://example.com/x.json", "#/$defs/gone", "#anchor"])
def test_a_dangling_reference_is_refused(rewrite: Rewrite, reference: str) -> None:
    schema: JsonSchema = {"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": reference}}}}
    if rewrite is openai_schema:
        assert not fits_openai_strict(schema)
    else:
        with pytest.raises(UnsupportedError, match="which is not among its definitions"):
            rewrite(schema)


# ------------------------------------------------------------------------------------------------ output schemas


def test_a_config_without_structured_output_has_no_output_schema() -> None:
    assert output_schema(AIModelCallConfig()) is None


def test_the_name_of_an_output_schema_is_legal_in_every_dialect() -> None:
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


def test_the_root_of_a_recursive_output_schema_is_an_object() -> None:
    asked = output_schema(AIModelCallConfig(structured_output=Node))
    assert asked is not None
    assert asked.schema["type"] == "object"
    assert check(asked.schema, NODE.model_dump(mode="json"))


class Numbers(RootModel[list[int]]):
    pass


@pytest.mark.parametrize("wanted", [Numbers, {"type": "array", "items": {}}, {"anyOf": [{"type": "object"}]}])
def test_structured_output_without_an_object_as_its_root_is_refused(wanted: type[BaseModel] | JsonSchema) -> None:
    with pytest.raises(ConfigurationError, match="an object as its root"):
        output_schema(AIModelCallConfig(structured_output=wanted))


class Callback(BaseModel):
    call: Callable[[], int]


def test_a_model_without_a_json_schema_is_refused_as_structured_output() -> None:
    with pytest.raises(ConfigurationError, match="Callback has no JSON schema"):
        output_schema(AIModelCallConfig(structured_output=Callback))
