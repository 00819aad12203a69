"""Checks that OpenAI's two dialects share: keys, error bodies, fields, and which models reason.

Follows: the openai SDK 3.54 (``_exceptions.py``, ``_base_client.py``) and the errors its API documents
(https://platform.openai.com/docs/guides/error-codes, read 2026-11-22).
"""

import re
from collections.abc import Mapping, Sequence

from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    Refusal,
    as_array,
    as_object,
    as_text,
    fits,
    kind_of,
    objects,
)
from dhenara_async.testing.dialects.schemas import dangling_reference

_TYPES = {
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
}

# Keywords that strict mode does not support.
_NOT_STRICT = ("oneOf", "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas")

Fields = Mapping[str, Sequence[JsonKind]]


def error_body(refusal: Refusal, _request_id: str, _arrived: Arrived) -> object:
    """Build OpenAI's error body."""
    kind = refusal.type or _TYPES.get(refusal.status, "invalid_request_error")
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}


def unauthorized(key: str) -> Refusal:
    """Build the error for a missing or a wrong key."""
    if not key:
        return Refusal("You didn't provide an API key in an Authorization header using Bearer auth.", status=401)
    return Refusal("Incorrect API key provided: ***.", status=401, code="invalid_api_key")


def not_found(method: str, path: str) -> Refusal:
    """Build the error for an unknown path."""
    return Refusal(f"Invalid URL ({method} {path})", status=404)


def check_fields(arrived: Arrived, fields: Fields, required: Sequence[str]) -> None:
    """Refuse unknown, missing and wrongly typed top-level fields; null counts as missing.

    Raises:
        Refusal: A field is unknown, missing or of a wrong type.
    """
    body = arrived.body
    for name in body:
        if name not in fields:
            raise Refusal(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    for name in required:
        if body.get(name) is None:
            raise Refusal(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)
    for name, value in body.items():
        if value is not None:
            check_kind(name, value, fields[name])


def check_kind(param: str, value: object, kinds: Sequence[JsonKind]) -> None:
    """Refuse a value of any other kind than ``kinds``.

    Raises:
        Refusal: The value has another kind.
    """
    if not fits(value, kinds):
        expected = " or ".join(kinds)
        raise Refusal(
            f"Invalid type for '{param}': expected {expected}, but got {kind_of(value)} instead.",
            code="invalid_type",
            param=param,
        )


def invalid_value(param: str, value: object, supported: Sequence[str]) -> Refusal:
    """Build the error for a value outside a fixed set."""
    names = ", ".join(f"'{name}'" for name in supported)
    return Refusal(f"Invalid value: '{value}'. Supported values are: {names}.", code="invalid_value", param=param)


def check_length(param: str, value: str, most: int) -> None:
    """Refuse a string that is too long.

    Raises:
        Refusal: The string is too long.
    """
    if len(value) > most:
        raise Refusal(
            f"Invalid '{param}': string too long. Expected a string with maximum length {most}, but got a string with "
            f"length {len(value)} instead.",
            code="string_above_max_length",
            param=param,
        )


def reasons(model: str) -> bool:
    """Whether an id names a reasoning model of OpenAI (o-series, gpt-5 and later)."""
    return re.match(r"(o\d|gpt-([5-9]|\d{2}))", model) is not None


def takes_sampling(model: str, effort: object) -> bool:
    """Whether a model takes sampling fields: a reasoning model does only since gpt-5.1, and only with effort none.

    None is the default effort of gpt-5.1 to gpt-5.5; earlier and later generations reason by default.
    """
    if not reasons(model):
        return True
    if "-chat" in model or re.match(r"gpt-(5\.\d|[6-9]|\d{2})", model) is None:
        return False
    return effort == "none" or (effort is None and re.match(r"gpt-5\.[1-5]", model) is not None)


def takes_stop(model: str) -> bool:
    """Whether a model takes stop texts; of the reasoning models, only the first ones do."""
    return not reasons(model) or model.startswith(("o1", "o3-mini"))


def unsupported(param: str, hint: str = "", *, code: str | None = "unsupported_parameter") -> Refusal:
    """Build the error for a field that the model does not support."""
    return Refusal(
        f"Unsupported parameter: '{param}' is not supported with this model.{hint}",
        code=code,
        param=param,
    )


def missing(param: str) -> Refusal:
    """Build the error for a missing field."""
    return Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def unknown(param: str) -> Refusal:
    """Build the error for an unknown field."""
    return Refusal(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def checked_name(param: str, value: object) -> str:
    """Return the valid name of a function or a schema.

    Raises:
        Refusal: The name is invalid.
    """
    check_kind(param, value, (JsonKind.STRING,))
    name = as_text(value)
    check_length(param, name, 64)
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", name):
        raise Refusal(
            f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            code="invalid_value",
            param=param,
        )
    return name


def schema_problem(schema: Mapping[str, object], *, strict: bool) -> str | None:
    """Return OpenAI's objection to a schema of arguments or answers; None if it has none."""
    kind = schema.get("type")
    if kind != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    problem = _strict_problem(schema, ()) if strict else None
    pointer = dangling_reference(schema)
    if problem is None and pointer is not None:
        return f"In context=(), reference to component '{pointer}' which was not found in the schema."
    return problem


def _strict_problem(schema: Mapping[str, object], context: tuple[str, ...]) -> str | None:
    where = f"In context=({', '.join(map(repr, context))}{',' if len(context) == 1 else ''}), "
    for keyword in _NOT_STRICT:
        if keyword in schema:
            return f"{where}'{keyword}' is not permitted."
    beside = sorted(set(schema) - {"$ref"})
    if "$ref" in schema and beside:
        return f"{where}$ref cannot have keywords {{{', '.join(map(repr, beside))}}}."
    properties = as_object(schema.get("properties"))
    if properties or schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return f"{where}'additionalProperties' is required to be supplied and to be false."
        absent = [name for name in properties if name not in as_array(schema.get("required"))]
        if absent:
            return (
                f"{where}'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{absent[0]}'."
            )
    found = (_strict_problem(as_object(part), (*context, *path)) for path, part in _parts(schema))
    return next((problem for problem in found if problem is not None), None)


def _parts(schema: Mapping[str, object]) -> list[tuple[tuple[str, ...], object]]:
    parts: list[tuple[tuple[str, ...], object]] = []
    for keyword in ("properties", "$defs", "definitions"):
        parts += [((keyword, name), part) for name, part in as_object(schema.get(keyword)).items()]
    for keyword in ("anyOf", "prefixItems"):
        parts += [((keyword, str(index)), part) for index, part in objects(schema.get(keyword))]
    return [*parts, (("items",), schema["items"])] if "items" in schema else parts
