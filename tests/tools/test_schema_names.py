"""Schema members named like keywords of JSON schema, and references to places inside a schema."""

from collections.abc import Callable

import pytest
from pydantic import BaseModel, Field, JsonValue, create_model

from dhenara_async import AIModelCallConfig, AIModelClient, Dialect, Tool
from dhenara_async.drivers.anthropic_messages.schema import anthropic_schema
from dhenara_async.drivers.gemini.schema import gemini_schema
from dhenara_async.drivers.openai_schema import fits_openai_strict, openai_schema
from dhenara_async.errors import InvalidRequestError, UnsupportedError
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.testing.dialects.schemas import dangling_reference
from dhenara_async.tools.schema_reading import JsonSchema
from tests.loopback import SPEAKERS, endpoint_at

Rewrite = Callable[[JsonSchema], JsonSchema]
REWRITES: dict[str, Rewrite] = {"openai": openai_schema, "anthropic": anthropic_schema, "gemini": gemini_schema}

KEYWORDS = (
    *("$ref", "$defs", "$schema", "$id", "$comment", "definitions", "properties", "patternProperties", "required"),
    *("additionalProperties", "propertyNames", "items", "prefixItems", "contains", "enum", "const", "default"),
    *("examples", "type", "format", "pattern", "title", "description", "anyOf", "oneOf", "allOf", "not", "if", "then"),
    *("else", "minimum", "exclusiveMinimum", "discriminator", "dependentSchemas", "unevaluatedItems", "nullable"),
)


class Berry(BaseModel):
    """A berry."""

    sweet: bool


class Basket(BaseModel):
    berry: Berry


def called(name: str, kind: object) -> type[BaseModel]:
    """A model with one member of the given name and type."""
    make: Callable[..., type[BaseModel]] = create_model
    return make("Bush", member=(kind, Field(alias=name)))


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
@pytest.mark.parametrize("kind", [Berry, Basket, list[Berry], Berry | None], ids=str)
@pytest.mark.parametrize("name", KEYWORDS)
def test_a_member_named_like_a_keyword_stays_a_member(name: str, kind: object, rewrite: Rewrite) -> None:
    schema: JsonSchema = called(name, kind).model_json_schema()
    rewritten = rewrite(schema)
    members, definitions = rewritten["properties"], rewritten["$defs"]
    assert isinstance(members, dict)
    assert isinstance(definitions, dict)
    assert list(members) == [name]
    assert definitions.keys() == ({"Berry", "Basket"} if kind is Basket else {"Berry"})
    assert dangling_reference(rewritten) is None
    assert fits_openai_strict(schema)


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_providers_accept_schemas_with_members_named_like_keywords(dialect: Dialect) -> None:
    make: Callable[..., type[BaseModel]] = create_model
    names = {f"member_{at}": (Berry | list[Basket], Field(alias=name)) for at, name in enumerate(KEYWORDS)}
    bush = make("Bush", **names)
    strict = Tool.from_model(bush, name="strict", strict=True)
    config = AIModelCallConfig(tools=[strict, Tool.from_model(bush)], structured_output=bush)
    async with ProviderServer([Answer(text="{}")]) as server:
        assert (await AIModelClient(endpoint_at(server, dialect), config).generate("Which?")).text() == "{}"


@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("as_tool", [False, True])
async def test_the_strict_server_refuses_dangling_references(dialect: Dialect, as_tool: bool) -> None:
    lost: dict[str, JsonValue] = {
        "type": "object",
        "properties": {"default": {"$ref": "#/$defs/Berry"}},
        "required": ["default"],
        "additionalProperties": False,
    }
    bare = {
        Dialect.OPENAI_CHAT: _chat(lost, as_tool),
        Dialect.OPENAI_RESPONSES: _responses(lost, as_tool),
        Dialect.ANTHROPIC_MESSAGES: _messages(lost, as_tool),
        Dialect.GEMINI: _gemini(lost, as_tool),
    }
    config = AIModelCallConfig(extra_body=bare[dialect])
    async with ProviderServer([Answer(text="{}")]) as server:
        with pytest.raises(InvalidRequestError, match=r"#/\$defs/Berry"):
            await AIModelClient(endpoint_at(server, dialect), config).generate("Which?")


def _chat(schema: JsonValue, as_tool: bool) -> dict[str, JsonValue]:
    if as_tool:
        return {"tools": [{"type": "function", "function": {"name": "pick", "parameters": schema}}]}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "bush", "schema": schema}}}


def _responses(schema: JsonValue, as_tool: bool) -> dict[str, JsonValue]:
    if as_tool:
        return {"tools": [{"type": "function", "name": "pick", "parameters": schema, "strict": False}]}
    return {"text": {"format": {"type": "json_schema", "name": "bush", "schema": schema, "strict": True}}}


def _messages(schema: JsonValue, as_tool: bool) -> dict[str, JsonValue]:
    if as_tool:
        return {"tools": [{"name": "pick", "input_schema": schema}]}
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def _gemini(schema: JsonValue, as_tool: bool) -> dict[str, JsonValue]:
    if as_tool:
        return {"tools": [{"functionDeclarations": [{"name": "pick", "parametersJsonSchema": schema}]}]}
    return {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}}


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
def test_references_outside_the_definitions_are_copied_into_the_definitions(rewrite: Rewrite) -> None:
    """Zod writes such references; the referenced member also stays at its place."""
    schema: JsonSchema = {
        "type": "object",
        "properties": {
            "berries": {"type": "array", "items": {"type": "object", "properties": {"sweet": {"type": "boolean"}}}},
            "best": {"$ref": "#/properties/berries/items"},
            "label": {"$ref": "#/$defs/short~1text"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "also": {"$ref": "#/properties/either/anyOf/0"},
        },
        "required": ["berries", "best", "label", "either", "also"],
        "$defs": {"short/text": {"type": "string"}, "properties_berries_items": {"type": "null"}},
    }
    rewritten = rewrite(schema)
    members = rewritten["properties"]
    assert isinstance(members, dict)
    assert list(members) == ["berries", "best", "label", "either", "also"]
    assert dangling_reference(rewritten) is None
    definitions = rewritten["$defs"]
    assert isinstance(definitions, dict)
    assert definitions["short/text"] == {"type": "string"}
    assert definitions["properties_either_anyOf_0"] == {"type": "integer"}
    assert definitions["properties_berries_items_"] == members["berries"]["items"]  # type: ignore[index,call-overload]


@pytest.mark.parametrize("reference", ["#/properties/gone", "#/properties/a/anyOf/7", "#/properties/a/anyOf/x", "#/"])
def test_dangling_references_outside_the_definitions_are_refused(reference: str) -> None:
    schema: JsonSchema = {
        "type": "object",
        "properties": {"a": {"anyOf": [{"type": "string"}]}, "b": {"$ref": reference}},
    }
    for rewrite in (anthropic_schema, gemini_schema):
        with pytest.raises(UnsupportedError, match="which is not among its definitions"):
            rewrite(schema)
