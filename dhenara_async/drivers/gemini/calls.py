"""Gemini's function calls, which arrive complete, or in pieces as JSON paths with values.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling (read 2026-11-22)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from dhenara_async.drivers.base import (
    JsonObject,
    arguments_object,
    arguments_text,
    as_list,
    as_object,
    as_text,
    is_object,
)
from dhenara_async.drivers.parts import OpenPart

_PATH_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\[['"]([^'"]+)['"]\]""")
_NOTHING = object()


class _Growing(list[str]):
    """The pieces of a streamed string, joined once at the end."""


class PartialArguments:
    """An arguments object assembled from ``partialArgs``.

    Args:
        admit: Called with the number of list elements created because a path points beyond the end of a list; raises if
            there are too many, since a path of ten bytes can request a list of any length.
    """

    __slots__ = ("_admit", "_root")

    def __init__(self, admit: Callable[[int], None]) -> None:
        self._admit = admit
        self._root: JsonObject = {}

    def update(self, members: JsonObject) -> None:
        """Add members that arrived complete."""
        self._root |= members

    def lay(self, piece: JsonObject) -> None:
        """Add one ``partialArg``; a string is appended to its earlier pieces."""
        path = [
            name or quoted or int(number) for name, number, quoted in _PATH_STEP.findall(as_text(piece.get("jsonPath")))
        ]
        value = _value(piece)
        if not path or value is _NOTHING:
            return
        at: object = self._root
        for step, following in zip(path, [*path[1:], None], strict=True):
            fresh: object = value if following is None else [] if isinstance(following, int) else {}
            at = self._descend(at, step, fresh, last=following is None)

    def whole(self) -> JsonObject:
        """Return the object as received so far."""
        return cast(JsonObject, _joined(self._root))

    def _descend(self, at: object, step: object, fresh: object, *, last: bool) -> object:
        if is_object(at) and isinstance(step, str):
            if not last:
                return at.setdefault(step, fresh)
            at[step] = _continued(at.get(step), fresh)
        elif isinstance(at, list) and not isinstance(at, _Growing) and isinstance(step, int):
            items = cast("list[object]", at)
            self._reach(items, step)
            if last:
                items[step] = _continued(items[step], fresh)
                return None
            if items[step] is None:
                items[step] = fresh
            return items[step]
        return None

    def _reach(self, items: list[object], index: int) -> None:
        missing = index + 1 - len(items)
        if missing > 1:
            self._admit(missing - 1)
        if missing > 0:
            items += [None] * missing


@dataclass(slots=True)
class FunctionCall:
    """A function call that later parts may continue.

    Most calls arrive complete. Vertex sends ``partialArgs`` on request; some gateways send a name and its arguments in
    separate parts.
    """

    laid: PartialArguments
    name: str = ""
    call_id: str = ""
    signature: object = None
    texts: list[str] = field(default_factory=list[str])  # arguments as JSON text
    has_members: bool = False
    will_continue: bool = False
    part: OpenPart | None = None  # None until name and id are known, or the call ends

    def continues(self, name: str, call_id: str) -> bool:
        """Whether a part with this name and id continues the call."""
        return not (name and self.name) and (not call_id or not self.call_id or call_id == self.call_id)

    def take(self, call: JsonObject, signature: object) -> None:
        """Add the fields of ``call``."""
        if self.part is None:  # its start has both already
            self.name = self.name or as_text(call.get("name"))
            self.call_id = self.call_id or as_text(call.get("id"))
        self.signature = signature or self.signature
        self.will_continue = bool(call.get("willContinue"))
        given, pieces = call.get("args"), as_list(call.get("partialArgs"))
        if is_object(given):
            self.laid.update(given)
        elif given:
            self.texts.append(arguments_text(given))
        for piece in pieces:
            if is_object(piece):
                self.laid.lay(piece)
        self.has_members = self.has_members or is_object(given) or bool(pieces)

    @property
    def is_whole(self) -> bool:
        """Whether the call is complete."""
        return bool(self.name) and not self.will_continue and (self.has_members or bool(self.texts))

    def arguments(self) -> str:
        """The arguments as JSON text; an object, unless the provider's own text is not one."""
        text = "".join(self.texts).strip()
        if not self.has_members:
            return text or "{}"
        return arguments_text(as_object(arguments_object(text)) | self.laid.whole())


def _continued(present: object, fresh: object) -> object:
    if not isinstance(fresh, str):
        return fresh
    if isinstance(present, _Growing):
        present.append(fresh)
        return present
    return _Growing([present, fresh] if isinstance(present, str) else [fresh])


def _joined(value: object) -> object:
    if isinstance(value, _Growing):
        return "".join(value)
    if isinstance(value, list):
        return [_joined(item) for item in cast("list[object]", value)]
    if is_object(value):
        return {name: _joined(item) for name, item in value.items()}
    return value


def _value(piece: JsonObject) -> object:
    if "nullValue" in piece:
        return None
    return next((piece[name] for name in ("stringValue", "numberValue", "boolValue") if name in piece), _NOTHING)
