"""The values that every store keeps, and those that it refuses: what a database cannot keep, memory does not either."""

import json
from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from dhenara_async.errors import ConfigurationError


def storable(text: object) -> bool:
    """Whether a database can keep ``text``: a text without NUL, and without lone surrogates, which have no UTF-8."""
    return (
        isinstance(text, str) and "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    )


def demand_storable(text: object, name: str) -> None:
    """Refuse a text that no database can keep, and what is no text.

    Raises:
        ConfigurationError: It is one of them; the message names it by ``name``.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{name} is a text, not {type(text).__name__}")
    if not storable(text):
        raise ConfigurationError(f"{name} has a NUL or half a surrogate pair, which no database can keep")


def demand_owner(owner: object) -> None:
    """Refuse what is neither the id of an owner nor None.

    Raises:
        ConfigurationError: It is empty, no text, or cannot be kept.
    """
    if owner is None:
        return
    if owner == "":
        raise ConfigurationError(
            "the owner is empty: pass the id of a user, or None for conversations without an owner"
        )
    demand_storable(owner, "the owner")


def demand_title(title: object) -> None:
    """Refuse what is neither a title nor None.

    Raises:
        ConfigurationError: It is no text, or cannot be kept.
    """
    if title is not None:
        demand_storable(title, "the title of a conversation")


def metadata_json(metadata: object) -> str:
    """Return the metadata of a conversation as JSON; None is an empty object.

    Raises:
        ConfigurationError: It is no JSON object, or it has NaN or an infinity.
    """
    if metadata is None:
        return "{}"
    if isinstance(metadata, Mapping):
        try:
            return json.dumps(dict(cast("Mapping[str, JsonValue]", metadata)), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            pass
    raise ConfigurationError("the metadata of a conversation is a JSON object; write metadata={'name': 'value'}")
