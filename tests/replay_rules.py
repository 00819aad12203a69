"""The rules by which providers take back a conversation, as a table that knows nothing of this library.

Each rule looks at the JSON of one request and tells where it is broken. They were written from the providers' error
messages and documentation, not from the formatter, so that both would have to be wrong in the same way for a mistake to
pass. Names are those of the errors a provider would answer with: ``E-A…`` Anthropic, ``E-O…`` OpenAI, ``E-G…`` Gemini,
``E-M…`` Mistral, ``E-D…`` DeepSeek, ``E-Q…`` Groq, ``E-C…`` Cerebras, ``E-X…`` whoever copies Anthropic; rules without
an error of that kind have a name in words. Not to be told from a body are E-A11, which is about a header, and E-G2,
E-B1 and E-B2, which are about clouds.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, cast

import orjson

JSON = dict[str, object]
Wire = Literal["anthropic", "responses", "gemini", "chat"]

STAND_INS = frozenset({"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})


@dataclass(frozen=True)
class Request:
    """A request, and what is known of who it goes to.

    Attributes:
        wire: Its dialect.
        host: The provider's name (``groq``, ``mistral`` …).
        model: The id that is asked for.
        body: Its JSON.
        foreign: Strings that nobody there may see.
    """

    wire: Wire
    host: str
    model: str
    body: JSON
    foreign: frozenset[str] = frozenset()

    @cached_property
    def messages(self) -> list[JSON]:
        """The messages, contents or items."""
        key = {"responses": "input", "gemini": "contents"}.get(self.wire, "messages")
        return objects(self.body.get(key))

    @cached_property
    def said(self) -> list[tuple[int, JSON]]:
        """The blocks or parts of lists of them, each with the number of its message."""
        key = "parts" if self.wire == "gemini" else "content"
        return [(at, block) for at, message in enumerate(self.messages) for block in objects(message.get(key))]


Check = Callable[[Request], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its name, whom it binds, and where a request breaks it."""

    name: str
    binds: Callable[[Request], bool]
    check: Check


RULES: list[Rule] = []


def violations(
    wire: Wire, host: str, model: str, body: bytes, *, foreign: Collection[str] = ()
) -> list[tuple[str, str]]:
    """The rules that a request breaks, each with where it does so.

    Args:
        wire: Its dialect.
        host: The provider's name.
        model: The id that is asked for.
        body: The request's bytes.
        foreign: Strings that the target may not see: other people's opaque state, and what others only thought.
    """
    request = Request(wire, host, model, cast(JSON, orjson.loads(body)), frozenset(foreign))
    return [(rule.name, where) for rule in RULES if rule.binds(request) for where in rule.check(request)]


def _rule(
    name: str, *, wire: Wire | None = None, hosts: Collection[str] = (), but: Collection[str] = ()
) -> Callable[[Check], Check]:
    def binds(request: Request) -> bool:
        return wire in (None, request.wire) and (not hosts or request.host in hosts) and request.host not in but

    def register(check: Check) -> Check:
        RULES.append(Rule(name, binds, check))
        return check

    return register


# ---------------------------------------------------------------------------------------------------- reading JSON


def objects(value: object) -> list[JSON]:
    """The entries of an array as objects."""
    return [_object(item) for item in cast("list[object]", value)] if isinstance(value, list) else []


def _object(value: object) -> JSON:
    return cast(JSON, value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in cast(JSON, value).values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _leaves(item)


_FREE_FORM = frozenset(
    {"args", "response", "arguments", "action", "parameters", "parametersJsonSchema", "input_schema"}
)


def _keys(value: object) -> Iterator[str]:
    """Every key of the dialect's own, at any depth; those of the user's JSON are not among them."""
    if isinstance(value, dict):
        for key, item in cast(JSON, value).items():
            yield key
            if key not in _FREE_FORM and not (key == "input" and isinstance(item, dict)):
                yield from _keys(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _keys(item)


def _repeated(values: list[str]) -> Iterator[str]:
    yield from {value for value in values if values.count(value) > 1}


_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _claude(model: str) -> tuple[int, int]:
    """A Claude's generation; one that is not recognised is new."""
    found = re.search(r"claude-(?:[a-z]+-)?(\d{1,2})(?:-(\d{1,2}))?(?:-|$)", model)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


def _always_thinks(model: str) -> bool:
    return "fable" in model or "mythos" in model


def _gemini(model: str) -> int:
    found = re.match(r"gemini-(\d+)", model)
    return int(found[1]) if found else 99


# ---------------------------------------------------------------------------------------------------- for everybody


@_rule("foreign state")
def _foreign(request: Request) -> Iterator[str]:
    """Opaque state goes back only to where it came from, and foreign thoughts to nobody."""
    everything = "\0".join(_leaves(request.body))
    yield from (repr(text[:60]) for text in sorted(request.foreign) if text in everything)


_VOCABULARY: Mapping[str, Collection[Wire]] = {
    "signature": ("anthropic", "chat"),
    "thinking": ("anthropic", "chat"),
    "tool_use_id": ("anthropic",),
    "cache_control": ("anthropic",),
    "encrypted_index": ("anthropic",),
    "encrypted_content": ("anthropic", "responses"),
    "thoughtSignature": ("gemini",),
    "functionCall": ("gemini",),
    "executableCode": ("gemini",),
    "summary": ("responses", "chat"),
    "call_id": ("responses",),
    "tool_calls": ("chat",),
    "tool_call_id": ("chat",),
    "reasoning_content": ("chat",),
    "reasoning_details": ("chat",),
    "extra_content": ("chat",),
    "provider_state": (),
    "origin": (),
}


@_rule("foreign words")
def _vocabulary(request: Request) -> Iterator[str]:
    """No dialect's own keys in another one."""
    found = set(_keys(request.body))
    yield from (word for word, wires in _VOCABULARY.items() if word in found and request.wire not in wires)


@_rule("nothing asked")
def _something(request: Request) -> Iterator[str]:
    if not request.messages:
        yield "there is no message"


# ---------------------------------------------------------------------------------------------------- Anthropic


def _blocks(message: JSON) -> list[JSON]:
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)


def _ids(blocks: list[JSON], kind: str, key: str) -> list[str]:
    return [_text(block.get(key)) for block in blocks if block.get("type") == kind]


@_rule("E-A1", wire="anthropic")
def _answered(request: Request) -> Iterator[str]:
    """Each call has one result in the very next message, in front of all else."""
    for at, message in enumerate(request.messages):
        called = _ids(_blocks(message), "tool_use", "id")
        following = _blocks(request.messages[at + 1]) if at + 1 < len(request.messages) else []
        leading: list[str] = []
        for block in following:
            if block.get("type") != "tool_result":
                break
            leading.append(_text(block.get("tool_use_id")))
        yield from (f"messages[{at}]: {call_id}" for call_id in called if leading.count(call_id) != 1)


@_rule("E-A2", wire="anthropic")
def _called(request: Request) -> Iterator[str]:
    """Each result has its call in the message before."""
    before: list[str] = []
    for at, message in enumerate(request.messages):
        for call_id in _ids(_blocks(message), "tool_result", "tool_use_id"):
            if call_id not in before or message.get("role") != "user":
                yield f"messages[{at}]: {call_id}"
        before = _ids(_blocks(message), "tool_use", "id")


@_rule("E-A3", wire="anthropic")
def _led(request: Request) -> Iterator[str]:
    """With a thinking budget, an answer whose tools have run begins with thinking."""
    if _object(request.body.get("thinking")).get("type") != "enabled" or len(request.messages) < 2:
        return
    answer, results = request.messages[-2:]
    kinds = [block.get("type") for block in _blocks(answer)]
    if "tool_result" in [block.get("type") for block in _blocks(results)] and kinds[:1] not in (
        ["thinking"],
        ["redacted_thinking"],
    ):
        yield f"messages[{len(request.messages) - 2}] begins with {kinds[:1]}"


@_rule("E-A4", wire="anthropic")
def _untouched(request: Request) -> Iterator[str]:
    """Thinking has its signature, and nothing that it did not come with."""
    for at, block in request.said:
        kind = block.get("type")
        if kind == "thinking" and (
            block.keys() != {"type", "thinking", "signature"}
            or not isinstance(block["thinking"], str)
            or not _text(block["signature"])
        ):
            yield f"messages[{at}]: thinking with {sorted(block)}"
        if kind == "redacted_thinking" and (block.keys() != {"type", "data"} or not _text(block["data"])):
            yield f"messages[{at}]: redacted thinking with {sorted(block)}"


@_rule("E-A5", wire="anthropic")
def _signed_here(request: Request) -> Iterator[str]:
    for at, block in request.said:
        if request.foreign & {_text(block.get("signature")), _text(block.get("data"))}:
            yield f"messages[{at}]"


@_rule("E-A6", wire="anthropic")
def _no_blanks(request: Request) -> Iterator[str]:
    """No text is blank, in results neither, and no message is empty."""
    for at, message in enumerate(request.messages):
        if not _blocks(message):
            yield f"messages[{at}] is empty"
        for block in _blocks(message):
            inner = _blocks(block) if block.get("type") == "tool_result" else []
            for text in (block, *inner):
                if text.get("type") == "text" and not _text(text.get("text")).strip():
                    yield f"messages[{at}]: {text.get('text')!r}"
            if block.get("type") == "tool_result" and block.get("is_error") and not inner:
                yield f"messages[{at}]: an error without words"
    for block in _blocks({"content": request.body.get("system")}) if "system" in request.body else []:
        if not _text(block.get("text")).strip():
            yield "system"


@_rule("E-A7", wire="anthropic")
def _user_last(request: Request) -> Iterator[str]:
    """The user has the last word, unless the provider broke off amid its own tools."""
    last = request.messages[-1] if request.messages else {}
    if last.get("role") != "assistant":
        return
    final = _blocks(last)[-1] if _blocks(last) else {}
    if _text(final.get("type")).endswith(("server_tool_use", "_tool_result")):
        return
    if _claude(request.model) >= (4, 6):
        yield "the last message is the assistant's"
    elif _text(final.get("text")) != _text(final.get("text")).rstrip():
        yield "the last text ends in white space"


@_rule("E-A8", wire="anthropic")
def _no_sampling(request: Request) -> Iterator[str]:
    if _claude(request.model) >= (4, 7):
        yield from (name for name in ("temperature", "top_p", "top_k") if name in request.body)


@_rule("E-A9", wire="anthropic")
def _system_apart(request: Request) -> Iterator[str]:
    if request.messages and request.messages[0].get("role") == "system":
        yield "messages[0]"


@_rule("E-A10", wire="anthropic")
def _not_forced(request: Request) -> Iterator[str]:
    choice = _object(request.body.get("tool_choice")).get("type")
    if choice in ("any", "tool") and _always_thinks(request.model):
        yield f"tool_choice {choice}"


@_rule("E-A12", wire="anthropic")
def _hosted_pairs(request: Request) -> Iterator[str]:
    """What the provider ran and what that gave stand in one answer, in this order; only the last may wait."""
    for at, message in enumerate(request.messages):
        waiting: list[str] = []
        for block in _blocks(message):
            kind = _text(block.get("type"))
            if kind in ("server_tool_use", "mcp_tool_use"):
                waiting.append(_text(block.get("id")))
            elif kind.endswith("_tool_result"):
                call_id = _text(block.get("tool_use_id"))
                if call_id not in waiting:
                    yield f"messages[{at}]: {kind} of {call_id}"
                else:
                    waiting.remove(call_id)
        if waiting and at < len(request.messages) - 1:
            yield f"messages[{at}]: nothing came of {waiting}"


_USERS = frozenset({"text", "image", "document", "search_result", "tool_result", "container_upload"})
_HOSTED = re.compile(r"(server|mcp)_tool_use|\w+_tool_result|compaction|container_upload")


@_rule("E-A13", wire="anthropic")
def _placed(request: Request) -> Iterator[str]:
    """Documents and pictures are the user's, thinking and calls the assistant's; nobody but the assistant cites."""
    for at, block in request.said:
        kind, user = _text(block.get("type")), request.messages[at].get("role") != "assistant"
        own = kind in ("text", "thinking", "redacted_thinking", "tool_use") or _HOSTED.fullmatch(kind)
        if (user and kind not in _USERS) or (not user and not own):
            yield f"messages[{at}]: {kind}"
        if user and block.get("citations") and kind == "text":
            yield f"messages[{at}]: the user cites"


@_rule("turns", wire="anthropic")
def _anthropic_turns(request: Request) -> Iterator[str]:
    """The user begins, and speakers take turns."""
    roles = [_text(message.get("role")) for message in request.messages if message.get("role") != "system"]
    if roles[:1] not in ([], ["user"]):
        yield f"{roles[0]} begins"
    yield from (f"{role} twice, at {at}" for at, (role, other) in enumerate(pairwise(roles)) if role == other)


@_rule("E-X1", wire="anthropic")
def _roles(request: Request) -> Iterator[str]:
    """User and assistant; instructions inside only for the newest of some families."""
    born, name = _claude(request.model), request.model
    allowed = {"user", "assistant"}
    if born >= ((4, 8) if "opus" in name else (5, 0)) and not ("sonnet" in name and born == (5, 0)):
        allowed.add("system")
    for at, message in enumerate(request.messages):
        if message.get("role") not in allowed:
            yield f"messages[{at}]: {message.get('role')}"


@_rule("call ids", wire="anthropic")
def _anthropic_ids(request: Request) -> Iterator[str]:
    """Letters, digits, ``_`` and ``-``, no two alike; ids of the provider's own tools belong to those."""
    ids = _ids([block for _at, block in request.said], "tool_use", "id")
    yield from (
        call_id for call_id in ids if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call_id) or call_id[:9] == "srvtoolu_"
    )
    yield from (f"{call_id} twice" for call_id in _repeated(ids))


@_rule("names", wire="anthropic")
def _anthropic_names(request: Request) -> Iterator[str]:
    names = [_text(block.get("name")) for _at, block in request.said if block.get("type") == "tool_use"]
    yield from (repr(name) for name in names if not _NAME.fullmatch(name))


@_rule("arguments", wire="anthropic")
def _anthropic_arguments(request: Request) -> Iterator[str]:
    """An object."""
    for at, block in request.said:
        if block.get("type") == "tool_use" and not isinstance(block.get("input"), dict):
            yield f"messages[{at}]: {block.get('input')!r}"


# ---------------------------------------------------------------------------------------------------- OpenAI Responses

_CALLS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}


def _is_said(item: JSON) -> bool:
    """Whether the model made an item."""
    role = item.get("role")
    return role == "assistant" if role else item.get("type") not in (None, *_CALLS.values())


@_rule("E-O1", wire="responses")
def _leads(request: Request) -> Iterator[str]:
    """Reasoning stands in front of something that the model said."""
    for at, item in enumerate(request.messages):
        following = request.messages[at + 1] if at + 1 < len(request.messages) else {}
        if item.get("type") == "reasoning" and not _is_said(following):
            yield f"input[{at}]"


@_rule("E-O2", wire="responses")
def _no_ids(request: Request) -> Iterator[str]:
    """What could stand alone has no id, for by that its reasoning would be looked for."""
    for at, item in enumerate(request.messages):
        kind = item.get("type", "message")
        if kind in ("message", *_CALLS, *_CALLS.values()) and "id" in item:
            yield f"input[{at}]: {kind} {item['id']}"


@_rule("E-O3", wire="responses")
def _sealed(request: Request) -> Iterator[str]:
    """Reasoning comes with its encrypted form, and with one of its own."""
    for at, item in enumerate(request.messages):
        if item.get("type") == "reasoning":
            content = _text(item.get("encrypted_content"))
            if not content or content in request.foreign:
                yield f"input[{at}]"


@_rule("E-O4", wire="responses")
def _no_content(request: Request) -> Iterator[str]:
    """Reasoning holds id, summary and encrypted content."""
    for at, item in enumerate(request.messages):
        if item.get("type") == "reasoning":
            extra = item.keys() - {"type", "id", "summary", "encrypted_content"}
            if extra or not isinstance(item.get("summary"), list):
                yield f"input[{at}]: {sorted(extra) or 'no summary'}"


@_rule("E-O5", wire="responses")
def _responses_ids(request: Request) -> Iterator[str]:
    """From 1 to 64 characters."""
    for at, item in enumerate(request.messages):
        if item.get("type") in (*_CALLS, *_CALLS.values()) and not 1 <= len(_text(item.get("call_id"))) <= 64:
            yield f"input[{at}]: {item.get('call_id')!r}"


@_rule("call ids", wire="responses")
def _responses_unique(request: Request) -> Iterator[str]:
    calls = [_text(item.get("call_id")) for item in request.messages if item.get("type") in _CALLS]
    yield from (f"{call_id} twice" for call_id in _repeated(calls))


@_rule("E-O7", wire="responses")
def _responses_pairs(request: Request) -> Iterator[str]:
    """Each output behind its call, of its kind, once, and before anybody else speaks."""
    waiting: dict[str, str] = {}
    for at, item in enumerate(request.messages):
        kind, call_id = _text(item.get("type")), _text(item.get("call_id"))
        if kind in _CALLS:
            waiting[call_id] = _CALLS[kind]
        elif kind in _CALLS.values():
            if waiting.pop(call_id, None) != kind:
                yield f"input[{at}]: no call for {call_id}"
        elif item.get("role") not in (None, "assistant") and waiting:
            yield f"input[{at}]: no output for {sorted(waiting)}"
            waiting = {}
    if waiting:
        yield f"at the end: no output for {sorted(waiting)}"


@_rule("stored", wire="responses")
def _stateless(request: Request) -> Iterator[str]:
    """Nothing points at what would have to be stored there."""
    if request.body.get("previous_response_id") or request.body.get("store") is not False:
        yield "the request relies on a store"
    yield from (f"input[{at}]" for at, item in enumerate(request.messages) if item.get("type") == "item_reference")


_SAID = {"assistant": ("output_text", "refusal")}
_ASKED = ("input_text", "input_image", "input_file", "input_audio")


@_rule("places", wire="responses")
def _responses_places(request: Request) -> Iterator[str]:
    """What the model said and what it was told have words of their own; the model itself has no files."""
    for at, block in request.said:
        role = _text(request.messages[at].get("role"))
        if block.get("type") not in _SAID.get(role, _ASKED):
            yield f"input[{at}]: {block.get('type')} of the {role}"
    for at, item in enumerate(request.messages):
        yield from (
            f"input[{at}]: {part.get('type')} in an output"
            for part in objects(item.get("output"))
            if item.get("type") in _CALLS.values() and part.get("type") not in _ASKED
        )


@_rule("arguments", wire="responses")
def _responses_arguments(request: Request) -> Iterator[str]:
    """A text of JSON."""
    for at, item in enumerate(request.messages):
        if item.get("type") == "function_call" and not _text(item.get("arguments")):
            yield f"input[{at}]: {item.get('arguments')!r}"


@_rule("names", wire="responses")
def _responses_names(request: Request) -> Iterator[str]:
    names = [_text(item.get("name")) for item in request.messages if item.get("type") in _CALLS]
    yield from (repr(name) for name in names if not _NAME.fullmatch(name))


@_rule("foreign items", wire="responses")
def _item_ids(request: Request) -> Iterator[str]:
    """Ids of items begin as their kind demands."""
    prefixes = {"reasoning": "rs_", "web_search_call": "ws_", "image_generation_call": "ig_"}
    for at, item in enumerate(request.messages):
        wanted = prefixes.get(_text(item.get("type")))
        if wanted and "id" in item and not _text(item["id"]).startswith(wanted):
            yield f"input[{at}]: {item['id']}"


@_rule("E-O9", wire="responses")
def _responses_knobs(request: Request) -> Iterator[str]:
    yield from (name for name in ("stop", "max_tokens", "max_completion_tokens") if name in request.body)


# ---------------------------------------------------------------------------------------------------- Gemini


def _named(content: JSON, kind: str) -> list[JSON]:
    return [_object(part[kind]) for part in objects(content.get("parts")) if kind in part]


@_rule("E-G1", wire="gemini")
def _steps_signed(request: Request) -> Iterator[str]:
    """From Gemini 3 on, the first call of each answer is signed."""
    if _gemini(request.model) < 3:
        return
    for at, content in enumerate(request.messages):
        first = next((part for part in objects(content.get("parts")) if "functionCall" in part), None)
        if first is not None and not first.get("thoughtSignature"):
            yield f"contents[{at}]"


@_rule("stand-ins", wire="gemini")
def _stand_ins(request: Request) -> Iterator[str]:
    """The documented stand-in for a signature is for the first call of an answer only, and for Gemini 3 on."""
    for at, content in enumerate(request.messages):
        calls = 0
        for part in objects(content.get("parts")):
            calls += "functionCall" in part
            stands = part.get("thoughtSignature") in STAND_INS
            if stands and ("functionCall" not in part or calls > 1 or _gemini(request.model) < 3):
                yield f"contents[{at}]"


@_rule("E-G3", wire="gemini")
def _responses_match(request: Request) -> Iterator[str]:
    """n calls are followed by one content with n responses in front, in the same order, of the same names and ids."""
    before: list[JSON] = []
    for at, content in enumerate([*request.messages, cast(JSON, {})]):
        answered = [(item.get("name"), item.get("id")) for item in _named(content, "functionResponse")]
        called = [(item.get("name"), item.get("id")) for item in before]
        if answered != called:
            yield f"contents[{at}]: {len(answered)} responses for {len(called)} calls, or in another order"
        parts = objects(content.get("parts"))[: len(answered)]
        if not all("functionResponse" in part for part in parts):
            yield f"contents[{at}]: something stands before the responses"
        before = _named(content, "functionCall")


@_rule("E-G4", wire="gemini")
def _gemini_turns(request: Request) -> Iterator[str]:
    """The user begins, the two take turns, and each has the parts that are its own."""
    roles = [_text(content.get("role")) for content in request.messages]
    if roles[:1] not in ([], ["user"]):
        yield f"{roles[0]} begins"
    yield from (f"contents[{at}]: {role!r}" for at, role in enumerate(roles) if role not in ("user", "model"))
    yield from (f"{role} twice, at {at}" for at, (role, other) in enumerate(pairwise(roles)) if role == other)
    for at, content in enumerate(request.messages):
        mine = ("functionCall", "executableCode", "codeExecutionResult", "toolCall", "toolResponse", "thought")
        wrong = ("functionResponse",) if content.get("role") == "model" else mine
        yield from (f"contents[{at}]: {kind}" for kind in wrong if _named(content, kind))


@_rule("E-G5", wire="gemini")
def _circulation(request: Request) -> Iterator[str]:
    if _gemini(request.model) < 3 and _object(request.body.get("toolConfig")).get("includeServerSideToolInvocations"):
        yield "toolConfig"


@_rule("no blanks", wire="gemini")
def _gemini_blanks(request: Request) -> Iterator[str]:
    """No content is empty, and no text blank but for one that carries a signature."""
    for at, content in enumerate(request.messages):
        if not objects(content.get("parts")):
            yield f"contents[{at}] is empty"
    for at, part in request.said:
        if "text" in part and not _text(part["text"]).strip() and not part.get("thoughtSignature"):
            yield f"contents[{at}]: {part['text']!r}"


@_rule("arguments", wire="gemini")
def _gemini_arguments(request: Request) -> Iterator[str]:
    """Objects, of calls and of responses."""
    for at, content in enumerate(request.messages):
        values = [call.get("args") for call in _named(content, "functionCall")]
        values += [response.get("response") for response in _named(content, "functionResponse")]
        yield from (f"contents[{at}]: {value!r}" for value in values if not isinstance(value, dict))


@_rule("names", wire="gemini")
def _gemini_names(request: Request) -> Iterator[str]:
    """Beginning with a letter or ``_``."""
    for content in request.messages:
        for item in (*_named(content, "functionCall"), *_named(content, "functionResponse")):
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}", _text(item.get("name"))):
                yield repr(item.get("name"))


@_rule("call ids", wire="gemini")
def _gemini_ids(request: Request) -> Iterator[str]:
    """Free, but where there are some, no two alike."""
    ids = [
        _text(call["id"]) for content in request.messages for call in _named(content, "functionCall") if call.get("id")
    ]
    yield from (f"{call_id} twice" for call_id in _repeated(ids))


_RESULT_MEDIA = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})


@_rule("media in results", wire="gemini")
def _result_media(request: Request) -> Iterator[str]:
    """From Gemini 3 on, of five types."""
    for at, content in enumerate(request.messages):
        for response in _named(content, "functionResponse"):
            for part in objects(response.get("parts")):
                media_type = _object(part.get("inlineData")).get("mimeType")
                if _gemini(request.model) < 3 or media_type not in _RESULT_MEDIA:
                    yield f"contents[{at}]: {media_type}"


# ---------------------------------------------------------------------------------------------------- Chat Completions


def _calls(message: JSON) -> list[JSON]:
    return objects(message.get("tool_calls"))


@_rule("pairs", wire="chat")
def _chat_pairs(request: Request) -> Iterator[str]:
    """An answer with calls, then the results of all of them, each once, then anything else."""
    waiting: list[str] = []
    for at, message in enumerate([*request.messages, cast(JSON, {"role": "end"})]):
        if message.get("role") == "tool":
            call_id = _text(message.get("tool_call_id"))
            if call_id in waiting:
                waiting.remove(call_id)
            else:
                yield f"messages[{at}]: no call for {call_id!r}"
            continue
        if waiting:
            yield f"messages[{at}]: no result for {waiting}"
        waiting = [_text(call.get("id")) for call in _calls(message)]
        if waiting and message.get("role") != "assistant":
            yield f"messages[{at}]: {message.get('role')} calls"


@_rule("E-O6", wire="chat", but={"mistral"})
def _chat_ids(request: Request) -> Iterator[str]:
    """At most 40 characters at OpenAI, 64 elsewhere, and some at all."""
    longest = 40 if request.host in ("openai", "openai_compatible") else 64
    for at, message in enumerate(request.messages):
        ids = [_text(call.get("id")) for call in _calls(message)]
        ids += [_text(message.get("tool_call_id"))] if message.get("role") == "tool" else []
        yield from (f"messages[{at}]: {call_id!r}" for call_id in ids if not 1 <= len(call_id) <= longest)


@_rule("call ids", wire="chat")
def _chat_unique(request: Request) -> Iterator[str]:
    ids = [_text(call.get("id")) for message in request.messages for call in _calls(message)]
    yield from (f"{call_id} twice" for call_id in _repeated(ids))


@_rule("names", wire="chat")
def _chat_names(request: Request) -> Iterator[str]:
    for message in request.messages:
        for call in _calls(message):
            name = _text((_object(call.get("function")) or _object(call.get("custom"))).get("name"))
            if not _NAME.fullmatch(name):
                yield repr(name)


@_rule("arguments", wire="chat")
def _chat_arguments(request: Request) -> Iterator[str]:
    """A text of JSON."""
    for at, message in enumerate(request.messages):
        for call in _calls(message):
            if call.get("type") == "function" and not _text(_object(call.get("function")).get("arguments")):
                yield f"messages[{at}]: {call.get('function')!r}"


_MEDIA = {
    "openai": {"image_url", "input_audio", "file"},
    "openai_compatible": {"image_url", "input_audio", "file"},
    "openrouter": {"image_url", "input_audio", "file"},
    "mistral": {"image_url", "input_audio", "document_url"},
    "vllm": {"image_url", "input_audio"},
    "together": {"image_url", "video_url"},
}
_ASSISTANTS = {"openai": {"text", "refusal"}, "mistral": {"text", "thinking"}}


@_rule("places", wire="chat")
def _chat_places(request: Request) -> Iterator[str]:
    """Files are the user's alone: no picture in a tool's result, none in an answer."""
    for at, block in request.said:
        role = _text(request.messages[at].get("role"))
        allowed: Collection[str] = {"text"}
        if role == "user":
            allowed = {"text", *_MEDIA.get(request.host, {"image_url"})}
        elif role == "assistant":
            allowed = _ASSISTANTS.get(request.host, {"text"})
        if block.get("type") not in allowed:
            yield f"messages[{at}]: {block.get('type')} of the {role}"


@_rule("contents", wire="chat")
def _chat_contents(request: Request) -> Iterator[str]:
    """Everybody says something; an answer may be silent where it calls."""
    for at, message in enumerate(request.messages):
        content = message.get("content")
        silent = message.get("role") == "assistant" and (_calls(message) or message.get("refusal"))
        if content is None and not silent:
            yield f"messages[{at}]: nothing is said"
        elif content is not None and not isinstance(content, str | list):
            yield f"messages[{at}]: {content!r}"
        elif content == [] or (content == "" and message.get("role") in ("user", "system", "developer")):
            yield f"messages[{at}]: empty"


_LOCAL = frozenset({"ollama", "vllm", "lm_studio", "llama_cpp"})


@_rule("plain words", wire="chat", hosts=_LOCAL | {"deepseek"})
def _chat_plain(request: Request) -> Iterator[str]:
    """Templates take words as a string; a list only where there is a file in it."""
    for at, message in enumerate(request.messages):
        kinds = {part.get("type") for part in objects(message.get("content"))}
        if kinds == {"text"}:
            yield f"messages[{at}]"


@_rule("silence", wire="chat", hosts=_LOCAL)
def _chat_silence(request: Request) -> Iterator[str]:
    """Templates print what is said, so nothing said is an empty text rather than null."""
    yield from (f"messages[{at}]" for at, message in enumerate(request.messages) if message.get("content", 0) is None)


_SYSTEM_ANYWHERE = frozenset({"openai", "groq", "mistral"})


@_rule("roles", wire="chat")
def _chat_roles(request: Request) -> Iterator[str]:
    """``developer`` is OpenAI's; elsewhere one system message leads, and only some hosts take another inside."""
    for at, message in enumerate(request.messages):
        role = message.get("role")
        if role not in ("system", "user", "assistant", "tool") and (role != "developer" or request.host != "openai"):
            yield f"messages[{at}]: {role!r}"
        if role == "system" and at and request.host not in _SYSTEM_ANYWHERE:
            yield f"messages[{at}]: an instruction inside"


@_rule("turns", wire="chat", hosts=_LOCAL - {"ollama"})
def _chat_turns(request: Request) -> Iterator[str]:
    """Templates want user and assistant to take turns, the user first; what tools gave is the user's turn, and what the
    user says behind it belongs to that."""
    roles: list[str] = []
    before = ""
    for message in request.messages:
        role = _text(message.get("role"))
        speaker = "user" if role == "tool" else role
        if role not in ("system", "developer") and not (before == "tool" and speaker == "user"):
            roles.append(speaker)
        before = role
    if roles[:1] not in ([], ["user"]):
        yield f"{roles[0]} begins"
    yield from (f"{role} twice, at {at}" for at, (role, other) in enumerate(pairwise(roles)) if role == other)


_THOUGHTS = frozenset({"reasoning", "reasoning_content", "reasoning_details"})
_THOUGHTS_AT: Mapping[str, Collection[str]] = {
    "deepseek": {"reasoning_content"},
    "fireworks": {"reasoning_content"},
    "groq": {"reasoning"},
    "cerebras": {"reasoning"},
    "openrouter": {"reasoning", "reasoning_details"},
}


@_rule("reasoning fields", wire="chat")
def _chat_reasoning(request: Request) -> Iterator[str]:
    """Earlier reasoning stands where the host reads it, in answers only, and nowhere at a host that reads none."""
    for at, message in enumerate(request.messages):
        allowed = _THOUGHTS_AT.get(request.host, ()) if message.get("role") == "assistant" else ()
        yield from (f"messages[{at}].{name}" for name in sorted(_THOUGHTS & message.keys()) if name not in allowed)


@_rule("E-D1", wire="chat", hosts={"deepseek"})
def _deepseek_thoughts(request: Request) -> Iterator[str]:
    """Every answer has its reasoning, if only an empty one."""
    for at, message in enumerate(request.messages):
        if message.get("role") == "assistant" and not isinstance(message.get("reasoning_content"), str):
            yield f"messages[{at}]"


@_rule("E-Q1", wire="chat", hosts={"groq"})
def _groq_thoughts(request: Request) -> Iterator[str]:
    yield from (f"messages[{at}]" for at, message in enumerate(request.messages) if "reasoning_content" in message)


@_rule("E-C1", wire="chat", hosts={"cerebras"})
def _cerebras_keys(request: Request) -> Iterator[str]:
    """Nothing that it does not know."""
    known = {"role", "content", "name", "reasoning", "tool_calls", "tool_call_id"}
    for at, message in enumerate(request.messages):
        yield from (f"messages[{at}].{name}" for name in sorted(message.keys() - known))


_NINE = re.compile(r"[a-zA-Z0-9]{9}")


@_rule("E-M1", wire="chat", hosts={"mistral"})
def _mistral_ids(request: Request) -> Iterator[str]:
    for at, message in enumerate(request.messages):
        ids = [_text(call.get("id")) for call in _calls(message)]
        ids += [_text(message.get("tool_call_id"))] if message.get("role") == "tool" else []
        yield from (f"messages[{at}]: {call_id!r}" for call_id in ids if not _NINE.fullmatch(call_id))


@_rule("E-M2", wire="chat", hosts={"mistral"})
def _mistral_bridge(request: Request) -> Iterator[str]:
    """Behind a tool's result speaks the assistant."""
    roles = [message.get("role") for message in request.messages]
    for at, (role, other) in enumerate(pairwise(roles)):
        if role == "tool" and other not in ("tool", "assistant"):
            yield f"messages[{at + 1}]: {other}"


@_rule("last word", wire="chat", hosts={"mistral"})
def _mistral_last(request: Request) -> Iterator[str]:
    """The user's, a tool's, or an answer that is marked as one to go on with."""
    last = request.messages[-1] if request.messages else {}
    if last.get("role") not in ("user", "tool") and last.get("prefix") is not True:
        yield _text(last.get("role"))


@_rule("empty answers", wire="chat", hosts={"mistral"})
def _mistral_empty(request: Request) -> Iterator[str]:
    for at, message in enumerate(request.messages):
        if message.get("role") == "assistant" and not message.get("content") and not _calls(message):
            yield f"messages[{at}]"


def _openai_reasons(model: str) -> bool:
    return re.match(r"o\d|gpt-([6-9]|5(?!-chat))", model) is not None


@_rule("E-O8", wire="chat", hosts={"openai"})
def _openai_tools(request: Request) -> Iterator[str]:
    """Models from 5.4 on call functions here only while they do not reason."""
    found = re.match(r"gpt-(\d+)(?:\.(\d+))?", request.model)
    born = float(f"{found[1]}.{found[2] or 0}") if found else 0
    if born < 5.4 or not request.body.get("tools"):
        return
    effort = request.body.get("reasoning_effort")
    if effort is not None if born < 5.6 else effort != "none":
        yield f"tools with reasoning_effort {effort!r}"


@_rule("E-O9", wire="chat", hosts={"openai"})
def _openai_knobs(request: Request) -> Iterator[str]:
    if _openai_reasons(request.model):
        knobs = {"max_tokens", "stop"}
        knobs |= {"temperature", "top_p"} if request.body.get("reasoning_effort") != "none" else set()
        yield from sorted(knobs & request.body.keys())
