"""Fits a history into a context window: which turns the next model is shown, and what is said of those it is not.

Only whole turns are left out, always the oldest, and a conversation never begins amid a tool's round trip: a result
without its call is refused by every provider. So the cut falls before a question that no earlier call waits for, and
where a limit points elsewhere more is kept, not less.

What a turn weighs is what its provider reported, where that tells it apart from everything else in the prompt; the rest
is estimated, and said to be. The estimate is coarse on purpose: an exact count needs each model's own tokenizer.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import ConfigurationError
from dhenara_async.formatter.conversion import SEVERITIES, ConversionEntry
from dhenara_async.framing.lenient_json import text_of
from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.media import Kind
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    Origin,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.tools.declarations import HostedTool, Tool
from dhenara_async.usage.tokens import Usage

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of text that count as one token: about four letters of English, three quarters of a token for each
character of Chinese or Japanese."""

IMAGE_TOKENS = 1_000
"""What any picture counts: its size in pixels is not known here, and providers shrink large ones to about this."""

FILE_BYTES_PER_TOKEN: Mapping[Kind, int] = {
    "text": BYTES_PER_TOKEN,
    "pdf": 25,  # a page of 50 kB that is read as words and as a picture
    "audio": 500,  # 128 kbit/s at 32 tokens a second
    "video": 2_000,  # 5 Mbit/s at 300 tokens a second
    "other": 25,
}
"""Bytes of a file that count as one token, where the file is here."""

UNSEEN_FILE_TOKENS: Mapping[Kind, int] = {
    "text": 1_000,
    "pdf": 5_000,
    "audio": 2_000,
    "video": 10_000,
    "other": 1_000,
}
"""What a file counts that is behind a URL or at its provider, so that nobody here knows its size."""

CUT = "…"
"""Stands where words were left out."""

_WORD = re.compile(r"\S+")

Summarise = Callable[[Sequence[ConversationNode]], str | Awaitable[str]]


class ConversationPolicy(FrozenModel):
    """How much of a conversation the next model is shown. Without a limit, all of it.

    With both limits, both hold. The newest turn is always shown, and so is every turn back to the question of a tool
    loop that would otherwise be cut in two, even if that is more than a limit allows. The question asked now and the
    instructions are not counted. Each turn that is left out is an entry (``truncated``) in the report.

    Attributes:
        keep_turns: The most turns that are shown, newest last; each round of a tool loop is a turn of its own.
        keep_tokens: The most tokens that they may add up to: as reported where that is known, else by an estimate.
        summarise: Given the turns that are left out, oldest first, gives the words that stand for them, at once or as
            an awaitable; blank words stand for nothing. Called only when a limit leaves something out. JSON and
            pickle leave it behind, and policies are equal whatever theirs is.
    """

    keep_turns: int | None = Field(default=None, gt=0)
    keep_tokens: int | None = Field(default=None, gt=0)
    summarise: SkipJsonSchema[Summarise | None] = Field(default=None, exclude=True, repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConversationPolicy) and self._limits == other._limits

    def __hash__(self) -> int:
        return hash(self._limits)

    def __getstate__(self) -> dict[str, object]:
        # A function from inside another cannot be pickled, nor can most objects that a method is bound to.
        limits = {"keep_turns": self.keep_turns, "keep_tokens": self.keep_tokens}
        fields_set = self.model_fields_set - {"summarise"}
        return {
            **super().__getstate__(),
            "__dict__": limits | {"summarise": None},
            "__pydantic_fields_set__": fields_set,
        }

    @property
    def _limits(self) -> tuple[int | None, int | None]:
        return self.keep_turns, self.keep_tokens


@dataclass(frozen=True, slots=True)
class Tokens:
    """How many tokens something takes.

    Attributes:
        count: How many.
        estimated: Whether any of them were estimated rather than reported by a provider.
    """

    count: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class Fitted:
    """A history, cut in two.

    Attributes:
        kept: The turns that the next model is shown, oldest first.
        trimmed: Those before them, oldest first, which it is not.
        estimated: Whether it was decided by weights of which any was an estimate; False where turns were only counted.
        limit: The limit that decided, as written in the policy (``keep_turns=3``); empty if nothing was trimmed.
    """

    kept: tuple[ConversationNode, ...]
    trimmed: tuple[ConversationNode, ...]
    estimated: bool
    limit: str = ""


def fit(nodes: Sequence[ConversationNode], policy: ConversationPolicy, *, answers_calls: bool = False) -> Fitted:
    """The newest turns of a history that the policy has room for, and the others.

    Takes time linear in what the nodes hold.

    Args:
        nodes: The history without the question asked now, oldest first (``Conversation.path()``).
        policy: How much is shown.
        answers_calls: Whether the question asked now brings results of the newest calls that have none yet; the turn
            that made them is then kept whole with its loop, wherever it stands.
    """
    history = tuple(nodes)
    by_turns = 0 if policy.keep_turns is None else max(0, len(history) - policy.keep_turns)
    by_tokens, estimated = 0, False
    if policy.keep_tokens is not None:
        by_tokens, estimated = _lightest(history, policy.keep_tokens, by_turns)
    cut = max(by_turns, by_tokens)
    if not cut:
        return Fitted(history, (), estimated)
    begins = _beginnings(history, answers_calls=answers_calls)
    while not begins[cut]:
        cut -= 1
    if by_turns >= by_tokens:
        limit, estimated = f"keep_turns={policy.keep_turns}", False
    else:
        limit = f"keep_tokens={policy.keep_tokens}"
    return Fitted(history[cut:], history[:cut], estimated, limit if cut else "")


def tokens_of(node: ConversationNode, before: ConversationNode | None) -> Tokens:
    """What a turn adds to the prompts after it: its question, files and tool results, and its answer without reasoning.

    The answer is as reported where it holds nothing but words and calls. The question is the prompt less the one before
    it and that one's answer, where both were reported by the same model and nothing else in them differed; knobs such
    as the tools that were offered are not kept with a turn, so they are taken to have stayed.

    Args:
        node: The turn.
        before: The turn that it followed, whether or not that is shown too; None if there is none.
    """
    asked = None if before is None else _reported_question(node, before)
    said = _reported_answer(node)
    question = _estimated_question(node) if asked is None else asked
    answer = estimated(_spoken(node)) if said is None else said
    return Tokens(question + answer, estimated=asked is None or said is None)


def estimated_tokens(text: str) -> int:
    """About how many tokens ``text`` takes; 0 only if it is empty."""
    size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)


def estimated(parts: Iterable[Part | JsonPart]) -> int:
    """About how many tokens parts take, shown reasoning included; opaque state counts nothing."""
    return sum(map(_estimated_part, parts))


def estimate_messages(
    messages: Iterable[Message], instructions: Iterable[str] = (), tools: Iterable[Tool | HostedTool] = ()
) -> int:
    """About how many tokens a prompt takes.

    Args:
        messages: The conversation, the question asked now included.
        instructions: What leads it.
        tools: What the model may use; each counts as its JSON.
    """
    said = sum(estimated(message.parts) for message in messages)
    led = sum(map(estimated_tokens, instructions))
    return said + led + sum(estimated_tokens(tool.model_dump_json(exclude_none=True)) for tool in tools)


def summary_message(text: str) -> Message | None:
    """A system message to lead the conversation, in which ``text`` stands for the turns left out; None if blank."""
    return Message.system(f"Summary of the earlier conversation:\n{text}") if text.strip() else None


def truncation_entries(
    trimmed: Sequence[ConversationNode], target: Origin, *, estimated: bool, summarised: bool, limit: str = ""
) -> tuple[ConversionEntry, ...]:
    """What the report says of the turns that were left out: one entry for each, in order.

    Args:
        trimmed: They, oldest first, from the first of the conversation (``Fitted.trimmed``).
        target: The endpoint that is asked now.
        estimated: Whether they were left out because of weights that were estimated (``Fitted.estimated``).
        summarised: Whether a summary stands for them.
        limit: What left them out (``Fitted.limit``).
    """
    why = f"left out by {limit or 'the limit of the conversation'}"
    why += " (weighed by estimate)" if estimated else ""
    instead = "a summary stands for it" if summarised else "nothing stands for it"
    return tuple(
        ConversionEntry.unchecked(
            code="truncated",
            severity=SEVERITIES["truncated"],
            node=node.id,
            message=None,
            kind="message",
            origin=node.origin,
            target=target,
            reason="limit_exceeded",
            detail=f"{why}; {_weighed(tokens_of(node, before))}; {instead}",
        )
        for before, node in zip((None, *trimmed), trimmed, strict=False)
    )


def first_words(text: str, most: int | None) -> str:
    """``text`` up to the end of its word number ``most``, then `` …`` if words were left out.

    Words are what white space parts; that between the kept ones stays as it is. A text of no more words comes back
    unchanged, and so does one that was cut to as many before.

    Args:
        text: Any text.
        most: How many words to keep, from 1; None = all.

    Raises:
        ConfigurationError: ``most`` is below 1.
    """
    if most is None:
        return text
    if most < 1:
        raise ConfigurationError(f"a text cannot be cut to {most} words; pass at least 1, or None to keep all")
    ends = [word.end() for word in islice(_WORD.finditer(text), most + 1)]
    return text if len(ends) <= most else f"{text[: ends[-2]]} {CUT}"


def shortened_file(file: FilePart, most: int | None) -> FilePart:
    """A text file with its first words alone; any other file as it is. See ``first_words``."""
    if most is None or file.data is None or file.kind != "text":
        return file
    text = first_words(file.get_text(), most)
    return file if text == file.get_text() else file.changed(data=text.encode())


def shortened_parts(parts: Iterable[Part], most: int | None) -> tuple[Part, ...]:
    """An answer whose texts have ``most`` words together; what comes behind them is left out with the rest of them.

    A text that was cut is not what its provider signed any more, so its state stays behind. See ``first_words``.
    """
    if most is None:
        return tuple(parts)
    kept: list[Part] = []
    left = most
    for part in parts:
        if not isinstance(part, TextPart):
            kept.append(part)
        elif left > 0:
            text = first_words(part.text, left)
            left -= len(_WORD.findall(part.text))
            whole = text == part.text
            kept.append(part if whole else part.changed(text=text, provider_state=None))
    return tuple(kept)


def _lightest(history: Sequence[ConversationNode], most: int, oldest: int) -> tuple[int, bool]:
    """Where the newest turns begin that weigh no more than ``most`` (0 = all do), and whether any weight was a guess.

    Turns before ``oldest`` are not weighed, and the newest one is taken whatever it weighs.
    """
    weight, guessed = 0, False
    for at in reversed(range(oldest, len(history))):
        tokens = tokens_of(history[at], history[at - 1] if at else None)
        weight, guessed = weight + tokens.count, guessed or tokens.estimated
        if weight > most:
            return min(at + 1, len(history) - 1), guessed
    return 0, guessed


def _beginnings(history: Sequence[ConversationNode], *, answers_calls: bool) -> list[bool]:
    """For each turn, whether a conversation may begin with it: it asks something, and nothing after it needs more."""
    callers: dict[str, int] = {}  # by a call's id, which providers repeat: the last turn so far that made one
    unanswered: dict[str, int] = {}
    needs: list[int] = []  # for each turn, the earliest whose calls its results answer
    for at, node in enumerate(history):
        answered = [result.call_id for result in node.tool_results]
        needs.append(min((callers.get(call_id, at) for call_id in answered), default=at))
        for call_id in answered:
            unanswered.pop(call_id, None)
        made = {part.call_id: at for part in _spoken(node) if isinstance(part, ToolCallPart)}
        callers.update(made)
        unanswered.update(made)
    newest = len(history) - 1
    needed = max(unanswered.values(), default=newest) if answers_calls else newest
    begins: list[bool] = [False] * len(history)
    for at in range(newest, -1, -1):
        needed = min(needed, needs[at])
        node = history[at]
        asks = bool(node.user_query.strip() or node.attached_files) and not node.tool_results
        begins[at] = at == 0 or (asks and needed >= at)
    return begins


def _spoken(node: ConversationNode) -> tuple[Part, ...]:
    """What a later model is told of a turn's answer."""
    parts = () if node.response is None else node.response.choices[0].parts
    return tuple(part for part in parts if not isinstance(part, ReasoningPart))


def _reported_answer(node: ConversationNode) -> int | None:
    """Tokens of the answer without its reasoning; None where the reported number is not that."""
    if node.response is None:
        return 0
    usage, answers = _usage(node), node.response.choices
    if usage is None or usage.output_tokens is None or len(answers) != 1:
        return None
    if any(isinstance(part, FilePart) for part in answers[0].parts):
        return None  # a picture is made of other tokens than it is read with
    if usage.reasoning_tokens is None and any(isinstance(part, ReasoningPart) for part in answers[0].parts):
        return None
    said = usage.output_tokens - (usage.reasoning_tokens or 0)
    return said if said > 0 else None


def _reported_question(node: ConversationNode, before: ConversationNode) -> int | None:
    """How much longer a prompt was than the one before with its answer; None where that is not the question alone."""
    here, there = _usage(node), _usage(before)
    if here is None or there is None or here.input_tokens is None or there.input_tokens is None:
        return None
    if node.origin is None or before.origin is None or not node.origin.same_model(before.origin):
        return None
    if node.parent_id not in (None, before.id) or node.instructions != before.instructions:
        return None
    said = _reported_answer(before)
    if said is None:
        return None
    asked = here.input_tokens - there.input_tokens - said
    return asked if asked > 0 and _same_history(node, before) else None


def _same_history(node: ConversationNode, before: ConversationNode) -> bool:
    """Whether nothing was left out of one prompt only, and no reasoning went along that may or may not be counted."""
    if _left_out(node) != _left_out(before):
        return False
    return not any(
        part.kind == "reasoning" and part.node == before.id and part.outcome != "omitted"
        for part in node.conversion.parts
    )


def _left_out(node: ConversationNode) -> set[str | None]:
    return {entry.node for entry in node.conversion.entries if entry.code == "truncated"}


def _usage(node: ConversationNode) -> Usage | None:
    """What the provider told of a whole turn; None where it did not, or counted its own tools' rounds as well."""
    usage, response = node.usage, node.response
    if response is None or node.status != "complete" or usage.source != "reported":
        return None
    parts = (part for choice in response.choices for part in choice.parts)
    ran_tools = any(isinstance(part, HostedToolPart) and not part.report for part in parts)
    return None if ran_tools else usage


def _estimated_question(node: ConversationNode) -> int:
    return estimated((*node.tool_results, *node.attached_files)) + estimated_tokens(node.user_query)


def _estimated_part(part: Part | JsonPart) -> int:
    match part:
        case FilePart():
            return _estimated_file(part)
        case ToolResultPart():
            return estimated_tokens(part.name) + estimated(part.content)
        case HostedToolPart():
            told = () if part.report else (part.input, part.output)
            return sum(estimated_tokens(text_of(value)) for value in told if value is not None)
        case _:
            return estimated_tokens(part.get_text())


def _estimated_file(file: FilePart) -> int:
    if file.kind == "image":
        return IMAGE_TOKENS
    if file.size is None:
        return UNSEEN_FILE_TOKENS[file.kind]
    return -(-file.size // FILE_BYTES_PER_TOKEN[file.kind])


def _weighed(tokens: Tokens) -> str:
    return f"about {tokens.count} tokens (estimated)" if tokens.estimated else f"{tokens.count} tokens (reported)"
