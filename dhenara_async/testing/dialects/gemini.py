"""Gemini ``generateContent`` and ``streamGenerateContent`` as the loopback server speaks them.

Follows: the google-genai SDK 3.4 (``types.py``, ``models.py``, ``_api_client.py``) and
https://ai.google.dev/api/generate-content (read 2026-11-22).
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence

from dhenara_async.endpoint import Dialect
from dhenara_async.messages.messages import Citation
from dhenara_async.response import FinishReason
from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    ParsedConversation,
    Refusal,
    Reply,
    Streamed,
    StreamPiece,
    TurnBuilder,
    WireDialect,
    as_array,
    as_object,
    as_text,
    dump,
    fits,
    is_base64,
    kind_of,
    objects,
    parsed_arguments,
    sse,
)
from dhenara_async.testing.dialects.gemini_rules import (
    combinations,
    generation,
    is_third_or_later,
    issued_signatures,
    model_of,
    result_media,
    schemas,
    thinking,
    tool_config,
    tools,
)
from dhenara_async.testing.dialects.gemini_spelling import in_camel_case
from dhenara_async.testing.script import canonical_json, words

_FIELDS = {
    "contents": (JsonKind.ARRAY,),
    "model": (JsonKind.STRING,),
    "cachedContent": (JsonKind.STRING,),
    "continuationToken": (JsonKind.STRING,),
    "generationConfig": (JsonKind.OBJECT,),
    "labels": (JsonKind.OBJECT,),
    "safetySettings": (JsonKind.ARRAY,),
    "serviceTier": (JsonKind.STRING,),
    "store": (JsonKind.BOOLEAN,),
    "systemInstruction": (JsonKind.OBJECT,),
    "toolConfig": (JsonKind.OBJECT,),
    "tools": (JsonKind.ARRAY,),
}
_CONFIG_FIELDS = {
    "audioTimestamp": (JsonKind.BOOLEAN,),
    "audioTranscriptionConfig": (JsonKind.OBJECT,),
    "candidateCount": (JsonKind.INTEGER,),
    "enableAffectiveDialog": (JsonKind.BOOLEAN,),
    "enableEnhancedCivicAnswers": (JsonKind.BOOLEAN,),
    "frequencyPenalty": (JsonKind.NUMBER,),
    "imageConfig": (JsonKind.OBJECT,),
    "logprobs": (JsonKind.INTEGER,),
    "maxOutputTokens": (JsonKind.INTEGER,),
    "mediaResolution": (JsonKind.STRING,),
    "presencePenalty": (JsonKind.NUMBER,),
    "responseFormat": (JsonKind.OBJECT,),
    "responseJsonSchema": (JsonKind.OBJECT,),
    "responseLogprobs": (JsonKind.BOOLEAN,),
    "responseMimeType": (JsonKind.STRING,),
    "responseModalities": (JsonKind.ARRAY,),
    "responseSchema": (JsonKind.OBJECT,),
    "seed": (JsonKind.INTEGER,),
    "speechConfig": (JsonKind.OBJECT,),
    "stopSequences": (JsonKind.ARRAY,),
    "temperature": (JsonKind.NUMBER,),
    "thinkingConfig": (JsonKind.OBJECT,),
    "topK": (JsonKind.NUMBER,),
    "topP": (JsonKind.NUMBER,),
}
_DATA_FIELDS = {
    "text": JsonKind.STRING,
    "inlineData": JsonKind.OBJECT,
    "fileData": JsonKind.OBJECT,
    "functionCall": JsonKind.OBJECT,
    "functionResponse": JsonKind.OBJECT,
    "executableCode": JsonKind.OBJECT,
    "codeExecutionResult": JsonKind.OBJECT,
    "toolCall": JsonKind.OBJECT,
    "toolResponse": JsonKind.OBJECT,
}
_PART_FIELDS = {
    **_DATA_FIELDS,
    "thought": JsonKind.BOOLEAN,
    "thoughtSignature": JsonKind.STRING,
    "mediaResolution": JsonKind.OBJECT,
    "videoMetadata": JsonKind.OBJECT,
    "partMetadata": JsonKind.OBJECT,
}
_NESTED_FIELDS = {
    "inlineData": ("mimeType", "data", "displayName"),
    "fileData": ("mimeType", "fileUri", "displayName"),
    "functionCall": ("id", "name", "args", "partialArgs", "willContinue"),
    "functionResponse": ("id", "name", "response", "parts", "scheduling", "willContinue"),
}
_FINISH = {
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.CONTEXT_WINDOW: "MAX_TOKENS",
    FinishReason.CONTENT_FILTER: "SAFETY",
    FinishReason.REFUSAL: "PROHIBITED_CONTENT",
    FinishReason.PAUSE: "CONTINUATION",
    FinishReason.ERROR: "MALFORMED_RESPONSE",
    FinishReason.OTHER: "OTHER",
}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_NEWLINE = "\r\n"


# Checks


def _fields(arrived: Arrived) -> None:
    _check_object("", arrived.body, _FIELDS)
    _check_object("generation_config.", as_object(arrived.body.get("generationConfig")), _CONFIG_FIELDS)
    if not as_array(arrived.body.get("contents")):
        raise Refusal("* GenerateContentRequest.contents: contents is not specified")


def _check_object(where: str, value: Mapping[str, object], fields: Mapping[str, Sequence[JsonKind]]) -> None:
    for name, entry in value.items():
        if name not in fields:
            place = f" at '{where.rstrip('.')}'" if where else ""
            raise Refusal(f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.')
        if entry is not None and not fits(entry, fields[name]):
            expected = " or ".join(fields[name])
            raise Refusal(f"Invalid value at '{where}{name}': expected {expected}, got {kind_of(entry)}.")


def _contents(arrived: Arrived) -> None:
    for index, entry in enumerate(as_array(arrived.body["contents"])):
        where = f"contents[{index}]"
        if not fits(entry, (JsonKind.OBJECT,)):
            raise Refusal(f"Invalid value at '{where}': expected an object, got {kind_of(entry)}.")
        content = as_object(entry)
        _check_object(f"{where}.", content, {"role": (JsonKind.STRING,), "parts": (JsonKind.ARRAY,)})
        if content.get("role") not in {"user", "model"}:
            raise Refusal("Please use a valid role: user, model.")
        _check_parts(where, content)
    if as_object(as_array(arrived.body["contents"])[0])["role"] != "user":
        raise Refusal("Please ensure that multiturn requests begin with a user turn.")
    instruction = arrived.body.get("systemInstruction")
    if instruction is not None:
        _check_object(
            "system_instruction.", as_object(instruction), {"role": (JsonKind.STRING,), "parts": (JsonKind.ARRAY,)}
        )
        _check_parts("system_instruction", as_object(instruction))


def _check_parts(where: str, content: dict[str, object]) -> None:
    if not as_array(content.get("parts")):
        raise Refusal(f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty.")
    for index, part in objects(content["parts"]):
        place = f"{where}.parts[{index}]"
        _check_object(f"{place}.", part, {name: (kind,) for name, kind in _PART_FIELDS.items()})
        given = [name for name in _DATA_FIELDS if part.get(name) is not None]
        if not given:
            raise Refusal(
                f"* GenerateContentRequest.{place}.data: required oneof field 'data' must have one initialized field"
            )
        if len(given) > 1:
            raise Refusal(f"Invalid value at '{place}': oneof field 'data' is already set. Cannot set '{given[1]}'.")
        _check_data(place, given[0], part)


def _check_data(where: str, name: str, part: dict[str, object]) -> None:
    signature = part.get("thoughtSignature")
    if signature is not None and not is_base64(signature):
        raise Refusal(f"Invalid value at '{where}.thought_signature' (TYPE_BYTES), Base64 decoding failed")
    # A part with only a signature is legal: it signs the end of a turn.
    if name == "text" and not part["text"] and not signature:
        raise Refusal(f"* GenerateContentRequest.{where}.text: text must not be empty.")
    data = as_object(part[name]) if name != "text" else {}
    for field in data:
        if name in _NESTED_FIELDS and field not in _NESTED_FIELDS[name]:
            raise Refusal(f"Invalid JSON payload received. Unknown name \"{field}\" at '{where}': Cannot find field.")
    if name == "inlineData" and (not data.get("mimeType") or not data.get("data") or not is_base64(data["data"])):
        raise Refusal(f"Invalid value at '{where}.inline_data': a MIME type and base64 data are required.")
    if name == "fileData" and not data.get("fileUri"):
        raise Refusal(f"* GenerateContentRequest.{where}.file_data.file_uri: file_uri must not be empty.")
    if name in {"functionCall", "functionResponse"}:
        _check_function(where, name, data)


def _check_function(where: str, name: str, data: dict[str, object]) -> None:
    field, value = ("args", data.get("args", {})) if name == "functionCall" else ("response", data.get("response"))
    if not as_text(data.get("name")):
        raise Refusal(f"* GenerateContentRequest.{where}.{name}.name: Name cannot be empty.")
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}", as_text(data["name"])):
        raise Refusal(f"* GenerateContentRequest.{where}.{name}.name: Invalid function name.")
    if not isinstance(value, dict):
        raise Refusal(f"Invalid value at '{where}.{name}.{field}' (type.googleapis.com/google.protobuf.Struct).")


def _limits(arrived: Arrived) -> None:
    config = as_object(arrived.body.get("generationConfig"))
    stops = as_array(config.get("stopSequences"))
    if len(stops) > 5:
        raise Refusal(f"The number of stop sequences must not exceed 5, but {len(stops)} were given.")
    for name, highest in {"temperature": 2, "topP": 1}.items():
        value = config.get(name)
        if isinstance(value, int | float) and not 0 <= value <= highest:
            raise Refusal(f"* GenerateContentRequest.generation_config.{name}: must be in the range [0, {highest}].")


def _function_turns(arrived: Arrived) -> None:
    """Check that a turn of n calls is followed by one user content with n responses of the same names.

    Adjacent model contents are one turn, as the server joins them; responses are not joined.
    """
    calls: list[str] = []
    for _index, content in objects(arrived.body["contents"]):
        asked, answered = _names(content, "functionCall"), _names(content, "functionResponse")
        if content["role"] == "model":
            if answered:
                raise Refusal("Please ensure that function response parts are in a user turn.")
            calls += asked
            continue
        if asked:
            raise Refusal(
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        if answered and not calls:
            raise Refusal("Please ensure that function response turn comes immediately after a function call turn.")
        _check_answered(calls, answered)
        calls = []
    _check_answered(calls, [])


def _check_answered(calls: list[str], answered: list[str]) -> None:
    if sorted(answered) != sorted(calls):
        raise Refusal(
            "Please ensure that the number of function response parts is equal to the number of function call parts "
            "of the function call turn."
        )


def _names(content: dict[str, object], field: str) -> list[str]:
    return [
        as_text(as_object(part[field]).get("name"))
        for _index, part in objects(content["parts"])
        if part.get(field) is not None
    ]


def _thought_signatures(arrived: Arrived) -> None:
    """Check, from Gemini 3 on, that the first call of each step of the current turn has its signature."""
    if not is_third_or_later(model_of(arrived)):
        return
    contents = list(objects(arrived.body["contents"]))
    begun = max(
        (index for index, content in contents if content["role"] == "user" and not _names(content, "functionResponse")),
        default=0,
    )
    for _index, content in contents[begun:]:
        for position, part in objects(content["parts"]):
            if part.get("functionCall") is None:
                continue
            if not part.get("thoughtSignature"):
                name = as_text(as_object(part["functionCall"]).get("name"))
                raise Refusal(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools "
                    f"to work correctly. Function call `default_api:{name}`, position {position + 1}."
                )
            break


# Reading requests


def _read(arrived: Arrived) -> ParsedConversation:
    turns = TurnBuilder()
    for _index, content in objects(arrived.body.get("contents")):
        role = "assistant" if content.get("role") == "model" else "user"
        for _number, part in objects(content.get("parts")):
            if part.get("functionResponse") is not None:
                turns.add("user", _response_text(as_object(as_object(part["functionResponse"]).get("response"))))
        turns.add(role, _text(content))
        for _number, part in objects(content.get("parts")):
            if part.get("functionCall") is not None:
                call = as_object(part["functionCall"])
                turns.add("assistant", f"{as_text(call.get('name'))}({canonical_json(call.get('args', {}))})")
    return ParsedConversation(
        model=model_of(arrived),
        stream=arrived.path.endswith(":streamGenerateContent"),
        system=_text(as_object(arrived.body.get("systemInstruction"))),
        turns=turns.turns(),
    )


def _text(content: dict[str, object]) -> str:
    return "".join(
        as_text(part.get("text")) for _index, part in objects(content.get("parts")) if not part.get("thought")
    )


def _response_text(response: dict[str, object]) -> str:
    for name in ("output", "result", "error"):
        if isinstance(response.get(name), str):
            return as_text(response[name])
    return canonical_json(response)


# Writing answers


def _usage(reply: Reply) -> dict[str, object]:
    """Build the usage; the candidate count excludes thoughts."""
    usage = reply.usage
    counts: dict[str, object] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": (usage.output_tokens or 0) - (usage.reasoning_tokens or 0),
        "totalTokenCount": usage.total_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
    }
    return {name: count for name, count in counts.items() if count is not None}


def _parts(reply: Reply, *, whole: bool) -> Iterator[dict[str, object]]:
    """Build the parts: one per kind if ``whole``, else one per delta. The last part or the call has the signature."""
    answer = reply.answer
    for piece in (answer.reasoning,) if whole and answer.reasoning else words(answer.reasoning):
        yield {"text": piece, "thought": True}
    yield from _searches(reply)
    texts = (answer.text,) if whole and answer.text else answer.text_deltas()
    sign = bool(answer.signature or (answer.reasoning and answer.signature is None))
    for index, piece in enumerate(texts):
        last = whole and index == len(texts) - 1
        signed = sign and last and not answer.tool_calls
        yield {"text": piece, **({"thoughtSignature": reply.signature()} if signed else {})}
    if sign and not whole and not answer.tool_calls:
        yield {"text": "", "thoughtSignature": reply.signature()}
    for index, call in enumerate(answer.tool_calls):
        body: dict[str, object] = {"id": call.call_id} if call.call_id else {}
        body |= {"name": call.name, "args": parsed_arguments(call.arguments)}
        # Current models sign the first call of every turn with calls, even if they do not show thoughts.
        signature = reply.signature() if index == 0 else ""
        yield {"functionCall": body, **({"thoughtSignature": signature} if signature else {})}


def _chunk(reply: Reply, parts: Sequence[dict[str, object]], *, last: bool) -> dict[str, object]:
    """Build a chunk with the requested number of candidates, all with the same content."""
    config = as_object(reply.arrived.body.get("generationConfig"))
    candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"}}
    if config.get("responseLogprobs"):
        candidate["logprobsResult"] = _logprobs(parts, config.get("logprobs"))
    if last:
        candidate["finishReason"] = _FINISH.get(reply.answer.ending, "STOP")
        if reply.answer.ending is FinishReason.PAUSE:  # another token each time, as long as the answer goes on
            before = b64decode(as_text(reply.arrived.body.get("continuationToken"))).removeprefix(b"token-")
            candidate["continuationToken"] = b64encode(b"token-%d" % (int(before or 0) + 1)).decode()
        if reply.answer.refusal:
            candidate["finishMessage"] = reply.answer.refusal
        if reply.answer.citations or reply.answer.web_searches:
            candidate["groundingMetadata"] = _grounding(reply)
    count = config.get("candidateCount")
    return {
        "candidates": [{**candidate, "index": index} for index in range(count if isinstance(count, int) else 1)],
        "usageMetadata": _usage(reply),
        "modelVersion": reply.conversation.model,
        "responseId": reply.identifier("", 1),
    }


def _logprobs(parts: Sequence[dict[str, object]], alternatives: object) -> dict[str, object]:
    """Build log probabilities: every word is a token, all with the same value."""
    tokens = [word for part in parts if not part.get("thought") for word in words(as_text(part.get("text")))]
    chosen = [{"token": token, "tokenId": index, "logProbability": -0.5} for index, token in enumerate(tokens)]
    if not alternatives:
        return {"chosenCandidates": chosen}
    others = [{"candidates": [token, {"token": "?", "logProbability": -2.0}]} for token in chosen]
    return {"chosenCandidates": chosen, "topCandidates": others}


def _grounding(reply: Reply) -> dict[str, object]:
    """Build the grounding of passages by UTF-8 offsets; a start of zero is omitted, as on the wire."""
    answer = reply.answer
    supports: list[dict[str, object]] = []
    for index, citation in enumerate(answer.citations):
        if citation.end is not None:
            start = len(answer.text[: citation.start or 0].encode())
            passage = answer.text[citation.start or 0 : citation.end]
            segment: dict[str, object] = {"endIndex": start + len(passage.encode()), "text": passage}
            segment |= {"startIndex": start} if start else {}
            supports.append({"segment": segment, "groundingChunkIndices": [index]})
    chunks = [_source(citation) for citation in answer.citations]
    return {"webSearchQueries": list(answer.web_searches), "groundingChunks": chunks, "groundingSupports": supports}


def _source(citation: Citation) -> dict[str, object]:
    source = {"uri": citation.url, "title": citation.title, "text": citation.cited_text}
    kind = "web" if citation.cited_text is None else "retrievedContext"
    return {kind: {name: value for name, value in source.items() if value is not None}}


def _searches(reply: Reply) -> Iterator[dict[str, object]]:
    """Build parts for the provider's own searches, if the request asks for them."""
    circulates = as_object(reply.arrived.body.get("toolConfig")).get("includeServerSideToolInvocations")
    if not circulates or not reply.answer.web_searches:
        return
    shared = {"id": reply.identifier("", 2), "toolType": "GOOGLE_SEARCH_WEB"}
    signed = {"thoughtSignature": reply.signature()}
    yield {"toolCall": {**shared, "args": {"queries": list(reply.answer.web_searches)}}, **signed}
    found = [citation.url for citation in reply.answer.citations]
    yield {"toolResponse": {**shared, "response": {"results": found}}, **signed}


def _plain(reply: Reply) -> object:
    return _chunk(reply, list(_parts(reply, whole=True)), last=True)


def _chunks(reply: Reply) -> Iterator[dict[str, object]]:
    parts = list(_parts(reply, whole=False)) or [{"text": ""}]
    for index, part in enumerate(parts):
        yield _chunk(reply, [part], last=index == len(parts) - 1)


def _stream(reply: Reply) -> Streamed:
    if reply.arrived.query.get("alt") == "sse":
        pieces = (StreamPiece(sse(chunk, newline=_NEWLINE), token=True) for chunk in _chunks(reply))
        return Streamed("text/event-stream", pieces)
    return Streamed("application/json; charset=UTF-8", _array(reply))


def _array(reply: Reply) -> Iterator[StreamPiece]:
    """Build a stream without ``alt=sse``: one growing JSON array."""
    for index, chunk in enumerate(_chunks(reply)):
        yield StreamPiece((b"[" if index == 0 else b"," + _NEWLINE.encode()) + dump(chunk), token=True)
    yield StreamPiece(b"]" + _NEWLINE.encode())


# Credentials and errors


def _credential(headers: Mapping[str, str]) -> str:
    return headers.get("x-goog-api-key", "")


def _unauthorized(key: str) -> Refusal:
    if key:
        return Refusal("API key not valid. Please pass a valid API key.", status=401)
    return Refusal("Request is missing required authentication credential: an API key was expected.", status=401)


def _not_found(method: str, path: str) -> Refusal:
    return Refusal(f"The requested URL {path} was not found for {method} on this server.", status=404)


def _error(refusal: Refusal, _request_id: str, arrived: Arrived) -> object:
    status = refusal.type or _STATUSES.get(refusal.status, "UNKNOWN")
    error: dict[str, object] = {"code": refusal.status, "message": refusal.message, "status": status}
    if refusal.retry_info is not None:
        delay = f"{refusal.retry_info:g}s"
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    body = {"error": error}
    in_array = arrived.path.endswith(":streamGenerateContent") and arrived.query.get("alt") != "sse"
    return [body] if in_array else body


GEMINI = WireDialect(
    dialect=Dialect.GEMINI,
    request_id_header=None,
    credential=_credential,
    unauthorized=_unauthorized,
    not_found=_not_found,
    spelled=in_camel_case,
    read=_read,
    rules=(
        _fields,
        _contents,
        _limits,
        generation,
        thinking,
        tools,
        tool_config,
        combinations,
        schemas,
        _function_turns,
        result_media,
        _thought_signatures,
        issued_signatures,
    ),
    plain=_plain,
    stream=_stream,
    error=_error,
    content_type="application/json; charset=UTF-8",
)
