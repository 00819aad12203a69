"""Signed nodes: opaque state goes back to its provider only from a node that nobody without a key has written."""

from collections.abc import Callable, Sequence
from typing import cast

import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import (
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversionPolicy,
    Dialect,
    Message,
    PromptFormatter,
)
from dhenara_async.errors import ConfigurationError, ConversionLossError
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    JsonPart,
    Part,
    ReasoningPart,
    TextPart,
    ToolResultPart,
)
from dhenara_async.stores.signing import SigningKey, SigningKeys
from dhenara_async.testing import Answer, ProviderServer
from tests.histories import SOURCES, histories, seal, thought
from tests.loopback import endpoint_at

KEY, OTHER = b"a key of thirty-two random bytes", b"another key of thirty-two bytes!"
CLAUDE = SOURCES["anthropic"]
GEMINI = SOURCES["gemini"]

keys = SigningKeys(KEY)


def node_of(*parts: Part, files: Sequence[FilePart] = (), results: Sequence[ToolResultPart] = ()) -> ConversationNode:
    node = histories("anthropic")["every kind"].nodes[0]
    assert node.response is not None
    said = tuple(part.changed(origin=CLAUDE.origin) for part in parts)
    choices = (node.response.choices[0].changed(parts=said),)
    return node.changed(response=node.response.changed(choices=choices), attached_files=files, tool_results=results)


SEALED = node_of(thought(CLAUDE, 0), TextPart(text="Good day."))
PLAIN = node_of(TextPart(text="Good day."))


def stored(node: ConversationNode) -> ConversationNode:
    return ConversationNode.model_validate_json(node.model_dump_json())


def tampered(node: ConversationNode, change: Callable[[dict[str, object]], None], at: int = 0) -> ConversationNode:
    """``node`` after somebody has changed a part of its answer in the store."""
    raw = orjson.loads(node.model_dump_json())
    change(raw["response"]["choices"][0]["parts"][at])
    return ConversationNode.model_validate_json(orjson.dumps(raw))


def sealed_text(nodes: Sequence[ConversationNode], signing: SigningKeys | None) -> tuple[bool, list[str]]:
    """Whether the thought's seal goes along, and why not, after each time that state is left out."""
    done = PromptFormatter.format_conversation(
        nodes, CLAUDE.endpoint, asked=[Message.user("And then?")], signing=signing
    )
    states = [part.provider_state for message in done.messages for part in message.parts if part.provider_state]
    why = [entry.reason for entry in done.report.entries if entry.code == "state_dropped"]
    return seal(CLAUDE, "thought 0") in str(states), why


# ---------------------------------------------------------------------------------------------------- signatures


def test_a_signature_survives_the_store_byte_for_byte() -> None:
    node = keys.signed(SEALED)
    assert node.signature is not None
    again = stored(node)
    assert again == node
    assert again.model_dump_json() == node.model_dump_json()
    assert keys.vouch_for(again)
    assert sealed_text([again], keys) == (True, [])


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_node_is_known_again(source: str) -> None:
    for history in histories(source).values():
        for node in history.nodes:
            signed = keys.signed(node)
            assert keys.vouch_for(stored(signed))
            assert keys.vouch_for(node) is (signed.signature is None)


def test_a_store_may_keep_json_in_an_order_of_its_own() -> None:
    raw = orjson.loads(keys.signed(SEALED).model_dump_json())
    sorted_keys = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    assert keys.vouch_for(ConversationNode.model_validate_json(sorted_keys))


def test_what_holds_nothing_opaque_is_not_signed_and_needs_no_signature() -> None:
    assert keys.signed(PLAIN) is PLAIN
    assert keys.vouch_for(PLAIN)


def test_an_unsigned_node_says_what_it_said_but_its_state_stays() -> None:
    assert sealed_text([SEALED], None) == (True, [])
    assert sealed_text([SEALED], keys) == (False, ["unsigned"])
    asked = [Message.user("And then?")]
    done = PromptFormatter.format_conversation([SEALED], CLAUDE.endpoint, asked=asked, signing=keys)
    assert "Good day." in [part.get_text() for message in done.messages for part in message.parts]
    with pytest.raises(ConversionLossError):
        policy = ConversionPolicy(strict=True)
        PromptFormatter.format_conversation([SEALED], CLAUDE.endpoint, asked=asked, signing=keys, policy=policy)


def _put(key: str, value: object) -> Callable[[dict[str, object]], None]:
    return lambda part: part.update({key: value})


_CHANGES: dict[str, tuple[Callable[[dict[str, object]], None], int]] = {
    "the words": (_put("text", "Another thought."), 0),
    "the state": (_put("provider_state", {"type": "thinking", "signature": "Zm9yZ2Vk"}), 0),
    "a key more": (lambda part: cast("dict[str, object]", part["provider_state"]).update({"x": 1}), 0),
    "the origin": (lambda part: cast("dict[str, object]", part["origin"]).update({"served_model": "x"}), 0),
    "the kind": (_put("type", "text"), 0),
    "the status": (_put("status", "interrupted"), 0),
    "state where there was none": (_put("provider_state", {"type": "text", "citations": []}), 1),
}


@pytest.mark.parametrize("what", _CHANGES)
def test_whoever_changes_what_is_covered_loses_the_signature(what: str) -> None:
    change, at = _CHANGES[what]
    assert not keys.vouch_for(tampered(keys.signed(SEALED), change, at))


def test_words_that_nothing_is_sealed_to_may_change() -> None:
    assert keys.vouch_for(tampered(keys.signed(SEALED), _put("text", "Good night."), at=1))


def test_a_signature_is_of_one_node() -> None:
    signed = keys.signed(SEALED)
    for other in ({"id": "another"}, {"origin": GEMINI.origin}, {"signature": "0" * 64}, {"signature": "é"}):
        assert not keys.vouch_for(signed.changed(**other))
    two = keys.signed(node_of(thought(CLAUDE, 0), thought(CLAUDE, 1)))
    assert two.response is not None
    first, second = two.response.choices[0].parts
    for parts in ((first,), (second, first)):
        choices = (two.response.choices[0].changed(parts=parts),)
        assert not keys.vouch_for(two.changed(response=two.response.changed(choices=choices)))


# ---------------------------------------------------------------------------------------------------- files


_BUCKET = FilePart(media_type="text/plain", url="gs://a-bucket/secret.txt")
_STORED = FilePart(media_type="text/plain", file_id="files/abc")
_RESULT = ToolResultPart(call_id="c", name="look", content=[TextPart(text="Seen."), JsonPart(value=[1]), _BUCKET])


@pytest.mark.parametrize("file", [_BUCKET, _STORED])
def test_files_in_somebodys_store_are_covered_too(file: FilePart) -> None:
    node = PLAIN.changed(attached_files=(file,), origin=GEMINI.origin)
    address = file.url or file.file_id or ""

    def sent(node: ConversationNode) -> bool:
        done = PromptFormatter.format_conversation([node], GEMINI.endpoint, asked=[Message.user("So?")], signing=keys)
        return address in str([part.model_dump() for message in done.messages for part in message.parts])

    assert sent(keys.signed(node))
    assert not sent(node)
    assert not sent(keys.signed(node.changed(attached_files=())).changed(attached_files=(file,)))


def test_files_inside_results_are_covered_too() -> None:
    node = PLAIN.changed(tool_results=(_RESULT,), origin=GEMINI.origin)
    assert not keys.vouch_for(node)
    assert keys.vouch_for(stored(keys.signed(node)))
    done = PromptFormatter.format_conversation([node], GEMINI.endpoint, asked=[Message.user("So?")], signing=keys)
    told = str([part.model_dump() for message in done.messages for part in message.parts])
    assert "gs://" not in told
    assert "Seen." in told
    assert [entry.reason for entry in done.report.entries if entry.code == "state_dropped"] == ["unsigned"]


def test_files_on_the_web_and_bytes_need_no_signature() -> None:
    files = (FilePart.from_url("https://files.test/x.png"), FilePart.from_bytes(b"words"))
    assert keys.vouch_for(PLAIN.changed(attached_files=files))


# ---------------------------------------------------------------------------------------------------- keys


def test_keys_are_changed_one_behind_the_other() -> None:
    old, new = SigningKeys(KEY), SigningKeys([SecretStr(OTHER.decode()), KEY])
    by_old, by_new = old.signed(SEALED), new.signed(SEALED)
    assert by_old.signature != by_new.signature
    assert (new.vouch_for(by_old), new.vouch_for(by_new)) == (True, True)
    assert (old.vouch_for(by_old), old.vouch_for(by_new)) == (True, False)
    assert SigningKeys(OTHER).signed(SEALED) == by_new
    assert not SigningKeys(b"none of them").vouch_for(by_new)


@pytest.mark.parametrize("empty", [b"", "", SecretStr(""), [], [KEY, b""]])
def test_there_is_no_signing_without_a_key(empty: SigningKey | Sequence[SigningKey]) -> None:
    with pytest.raises(ConfigurationError, match="signing_key"):
        SigningKeys(empty)
    with pytest.raises(ConfigurationError, match="signing_key"):
        ConversationManager(signing_key=empty)


def test_keys_are_in_no_repr() -> None:
    for shown in (keys, SigningKeys([KEY, OTHER]), ConversationManager(signing_key=KEY)):
        assert KEY.decode() not in repr(shown)
        assert OTHER.decode() not in f"{shown!r} {shown}"


def test_state_that_is_too_deep_to_look_at_is_not_vouched_for() -> None:
    deep: object = "x"
    for _ in range(5_000):
        deep = [deep]
    for part in (ReasoningPart().changed(provider_state={"x": deep}), HostedToolPart(name="x").changed(input=deep)):
        node = node_of(part.changed(provider_state=part.provider_state or {"type": "x"}))
        assert keys.signed(node).signature is None
        assert not keys.vouch_for(node)


# ---------------------------------------------------------------------------------------------------- managers

_ANSWERS = [Answer("Good day.", reasoning="Hm.", signature="c2VhbGVk"), Answer("Well."), Answer("Bye.")]


async def _talk(change: Callable[[ConversationNode], ConversationNode], signing_key: bytes | None) -> tuple[bytes, str]:
    """Two turns, the first of which has been through a store and ``change``; the last request, and its report."""
    async with ProviderServer(_ANSWERS) as server:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        async with ConversationManager(signing_key=signing_key) as manager:
            conversation = await manager.create()
            first = await manager.ask(conversation, "Hello?", endpoint)
        read = Conversation(nodes=[change(stored(first))])
        async with ConversationManager(signing_key=signing_key) as manager:
            checked = manager.check(read, endpoint, query="And then?")
            node = await manager.ask(read, "And then?", endpoint)
        assert [entry.code for entry in checked.entries] == [entry.code for entry in node.conversion.entries]
        reasons = ",".join(entry.reason for entry in node.conversion.entries if entry.code == "state_dropped")
        return server.requests[-1].body, reasons


def _same(node: ConversationNode) -> ConversationNode:
    return node


def _unsigned(node: ConversationNode) -> ConversationNode:
    return node.changed(signature=None)


def _forged(node: ConversationNode) -> ConversationNode:
    return tampered(node, _put("text", "Forged."))


@pytest.mark.parametrize(
    ("change", "signing_key", "goes", "reason"),
    [
        (_same, None, True, ""),
        (_same, KEY, True, ""),
        (_unsigned, KEY, False, "unsigned"),
        (_forged, KEY, False, "unsigned"),
        (_unsigned, None, True, ""),
    ],
)
async def test_a_manager_signs_and_checks(
    change: Callable[[ConversationNode], ConversationNode], signing_key: bytes | None, *, goes: bool, reason: str
) -> None:
    body, why = await _talk(change, signing_key)
    assert (b"c2VhbGVk" in body, why) == (goes, reason)
    assert b"Good day." in body


async def test_siblings_are_signed_also_those_that_were_never_asked() -> None:
    async with ProviderServer(_ANSWERS[:1] * 2) as server, ConversationManager(signing_key=KEY) as manager:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        conversation = await manager.create()
        nodes = await manager.fan_out(conversation, "Hello?", [endpoint, endpoint])
        assert [keys.vouch_for(node) and node.signature is not None for node in nodes] == [True, True]
        blind = endpoint_at(server, Dialect.OPENAI_CHAT)
        (failed,) = await manager.fan_out(conversation, "Look.", [blind], files=[_BUCKET])
        assert (failed.status, keys.vouch_for(failed)) == ("failed", True)
