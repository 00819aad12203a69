"""Checks of the arguments of a call, for the mistakes that a type checker would find: one sentence that says what to
write instead.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from inspect import iscoroutine
from typing import cast

from pydantic import JsonValue

from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import FilePart, ToolResultPart


def check_conversation(given: object) -> None:
    """Refuse what is not an open conversation.

    Raises:
        ConfigurationError: It is an id, a coroutine that nobody awaited, or something else.
    """
    if isinstance(given, Conversation):
        return
    if isinstance(given, str):
        raise ConfigurationError("the conversation is an id, which has to be opened; write await manager.open(id)")
    if iscoroutine(given):
        given.close()  # or Python warns of it too
        raise ConfigurationError("the conversation was not awaited; write conversation = await manager.create()")
    raise ConfigurationError(
        f"the conversation is a Conversation, not {type(given).__name__}; write conversation = await manager.create()"
    )


def id_of(given: object) -> str:
    """Return the id of a conversation that is given as itself or by its id.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, Conversation):
        return given.id
    if iscoroutine(given):
        check_conversation(given)
    raise ConfigurationError(f"the conversation is a Conversation or its id, not {type(given).__name__}")


def check_query(given: object) -> None:
    """Refuse a query that is not a text.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(given, str):
        raise ConfigurationError(
            f"the query of a turn is a text, not {type(given).__name__}; write manager.turn(conversation, 'text', "
            "endpoint), with files=[…] for files"
        )


def check_config(given: object) -> AIModelCallConfig:
    """Return a config as it is.

    Raises:
        ConfigurationError: It is a dict, or something else.
    """
    if isinstance(given, AIModelCallConfig):
        return given
    kind, options = type(given).__name__, "max_output_tokens=…"
    if isinstance(given, Mapping):
        names = list(cast("Mapping[object, object]", given))[:3]
        options = ", ".join(f"{str(name)[:40]}=…" for name in names)
    raise ConfigurationError(f"the config is an AIModelCallConfig, not {kind}; write AIModelCallConfig({options})")


def check_metadata(given: object) -> dict[str, JsonValue]:
    """Return the metadata of a turn as a dict.

    Raises:
        ConfigurationError: It is no JSON object, or it has NaN or an infinity, which JSON cannot express.
    """
    if isinstance(given, Mapping):
        metadata = dict(cast("Mapping[str, JsonValue]", given))
        with suppress(TypeError, ValueError):
            json.dumps(metadata, allow_nan=False)
            return metadata
    raise ConfigurationError("the metadata of a turn is a JSON object; write metadata={'name': 'value'}")


def check_several(instructions: Iterable[str], files: Iterable[object], tool_results: Iterable[object]) -> None:
    """Refuse a single value, and None, where a sequence is expected: a text is a sequence of texts too.

    Raises:
        ConfigurationError: One of the arguments is a single value or None.
    """
    if isinstance(instructions, str):
        raise ConfigurationError("instructions is a sequence of texts, not one text; write instructions=['…']")
    if isinstance(files, str | bytes | os.PathLike | FilePart):
        raise ConfigurationError("files is a sequence of files, not one file; write files=[…]")
    if isinstance(tool_results, ToolResultPart):
        raise ConfigurationError("tool_results is a sequence of results, not one result; write tool_results=[…]")
    for name, given in (("instructions", instructions), ("files", files), ("tool_results", tool_results)):
        if not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"{name} is a sequence, not {type(given).__name__}; write {name}=[…]")
