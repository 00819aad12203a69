"""Trims a history to a context window, and reports the turns that were left out.

Only whole turns are left out, always the oldest, and the cut never falls inside a tool loop, because every provider
rejects a result without its call. The history is cut before a question; if a limit points inside a tool loop, more is
kept, not less.

A turn's tokens are those reported by its provider, if they can be separated from the rest of the prompt. All others are
estimated, and marked as such. The estimate is coarse: an exact count needs each model's own tokenizer.
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
from dhenara_async.messages.media import FileKind
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    Origin,
    Part,
    ReasoningPart,
    TextPart,
    ToolResultPart,
)
from dhenara_async.tools.declarations import HostedTool, Tool
from dhenara_async.usage.tokens import Usage

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of text that count as one token: about four letters of English, three quarters of a token for each
character of Chinese or Japanese."""

IMAGE_TOKENS = 1_000
"""Estimated tokens of any image: its size in pixels is unknown here, and providers scale large images to about this."""

FILE_BYTES_PER_TOKEN: Mapping[FileKind, int] = {
    "text": BYTES_PER_TOKEN,
    "pdf": 25,  # a page of 50 kB that is read as words and as a picture
    "audio": 500,  # 128 kbit/s at 32 tokens a second
    "video": 2_000,  # 5 Mbit/s at 300 tokens a second
    "other": 25,
}
"""Estimated bytes per token of a file whose size is known."""

UNSEEN_FILE_TOKENS: Mapping[FileKind, int] = {
    "text": 1_000,
    "pdf": 5_000,
    "audio": 2_000,
    "video": 10_000,
    "other": 1_000,
}
"""Estimated tokens of a file whose size is unknown, because it is behind a URL or at its provider."""

CUT = "…"
"""Marks left out words."""

_WORD = re.compile(r"\S+")

Summarise = Callable[[Sequence[ConversationNode]], str | Awaitable[str]]


class ConversationPolicy(FrozenModel):
    """Limits on the history shown to the next model. Without a limit, all of it is shown.

    With both limits, both apply. The newest turn is always shown. A tool loop is never cut: it is shown from its
    question on, even if that exceeds a limit. The current question and the instructions are not counted. Each turn
    that is left out has an entry (``truncated``) in the report.

    Attributes:
        keep_turns: Maximum number of turns; each round of a tool loop is a turn.
        keep_tokens: Maximum tokens of the turns, as reported by the provider, else estimated.
        summarise: A function from the left out turns, oldest first, to a text that replaces them, or to an awaitable
            of it; a blank text is ignored. Called only if turns are left out. JSON, pickle and comparisons ignore it.
    """

    keep_turns: int | None = Field(default=None, gt=0)
    keep_tokens: int | None = Field(default=None, gt=0)
    summarise: SkipJsonSchema[Summarise | None] = Field(default=None, exclude=True, repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConversationPolicy) and self._limits == other._limits

    def __hash__(self) -> int:
        return hash(self._limits)

    def __getstate__(self) -> dict[str, object]:
        # a local function or a bound method may not be picklable
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
    """A number of tokens.

    Attributes:
        count: The number.
        estimated: Whether any of it was estimated rather than reported by a provider.
    """

    count: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class Fitted:
    """A history cut into shown and left out turns.

    Attributes:
        kept: The shown turns, oldest first.
        trimmed: The left out turns, oldest first.
        estimated: Whether the cut depends on estimated tokens; False if turns were only counted.
        limit: The limit that decided, as written in the policy (``keep_turns=3``); empty if nothing was trimmed.
    """

    kept: tuple[ConversationNode, ...]
    trimmed: tuple[ConversationNode, ...]
    estimated: bool
    limit: str = ""


def fit(nodes: Sequence[ConversationNode], policy: ConversationPolicy, *, answers_calls: bool = False) -> Fitted:
    """Cut a history to the newest turns that the policy allows, in linear time.

    Args:
        nodes: The history without the current question, oldest first (``Conversation.path()``).
        policy: The limits.
        answers_calls: Whether the current question has results of calls without results so far; the turn with these
            calls is then kept with its whole tool loop.
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
    """Return the tokens that a turn adds to later prompts: question, files, tool results, and answer without reasoning.

    The answer's tokens are reported if it has only text and calls. The question's tokens are this prompt minus the
    prompt and the answer before it, if the same model reported both and nothing else changed. Settings such as tools
    are not stored with a turn and are assumed unchanged.

    Args:
        node: The turn.
        before: The preceding turn, shown or not; None if there is none.
    """
    reported_question = None if before is None else _reported_question(node, before)
    reported_answer = _reported_answer(node)
    question = _estimated_question(node) if reported_question is None else reported_question
    answer = estimated(_answer_parts(node)) if reported_answer is None else reported_answer
    return Tokens(question + answer, estimated=reported_question is None or reported_answer is None)


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of ``text``; 0 only if it is empty."""
    size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)


def estimated(parts: Iterable[Part | JsonPart]) -> int:
    """Estimate the tokens of parts, visible reasoning included; opaque state counts as 0."""
    return sum(map(_estimated_part, parts))


def estimate_messages(
    messages: Iterable[Message], instructions: Iterable[str] = (), tools: Iterable[Tool | HostedTool] = ()
) -> int:
    """Estimate the tokens of a prompt.

    Args:
        messages: The conversation, the current question included.
        instructions: The system instructions.
        tools: The declared tools; each counts as its JSON.
    """
    message_tokens = sum(estimated(message.parts) for message in messages)
    instruction_tokens = sum(map(estimated_tokens, instructions))
    return (
        message_tokens
        + instruction_tokens
        + sum(estimated_tokens(tool.model_dump_json(exclude_none=True)) for tool in tools)
    )


def summary_message(text: str) -> Message | None:
    """Build the leading system message with a summary of the left out turns; None if ``text`` is blank."""
    return Message.system(f"Summary of the earlier conversation:\n{text}") if text.strip() else None


def truncation_entries(
    trimmed: Sequence[ConversationNode], target: Origin, *, estimated: bool, summarised: bool, limit: str = ""
) -> tuple[ConversionEntry, ...]:
    """Build one report entry per left out turn, in order.

    Args:
        trimmed: The left out turns, oldest first (``Fitted.trimmed``).
        target: The target of the call.
        estimated: Whether the cut depends on estimated tokens (``Fitted.estimated``).
        summarised: Whether a summary replaces the turns.
        limit: The limit that decided (``Fitted.limit``).
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
    """Return the first ``most`` words of ``text``, with `` …`` if words were left out.

    Words are separated by white space, which is kept between the words. A text with no more words is returned
    unchanged, also one that was already cut to ``most`` words.

    Args:
        text: Any text.
        most: Number of words to keep, from 1; None = all.

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
    """Return a text file cut to its first words, any other file unchanged. See ``first_words``."""
    if most is None or file.data is None or file.kind != "text":
        return file
    text = first_words(file.get_text(), most)
    return file if text == file.get_text() else file.changed(data=text.encode())


def shortened_parts(parts: Iterable[Part], most: int | None) -> tuple[Part, ...]:
    """Cut an answer's texts to ``most`` words together, and drop the texts after them.

    A cut text loses its provider state, because its signature no longer matches. See ``first_words``.
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
    """Return the index of the first turn that fits into ``most`` tokens (0 = all fit), and whether any was estimated.

    Turns before ``oldest`` are not counted, and the newest turn always fits.
    """
    weight, guessed = 0, False
    for at in reversed(range(oldest, len(history))):
        tokens = tokens_of(history[at], history[at - 1] if at else None)
        weight, guessed = weight + tokens.count, guessed or tokens.estimated
        if weight > most:
            return min(at + 1, len(history) - 1), guessed
    return 0, guessed


def _beginnings(history: Sequence[ConversationNode], *, answers_calls: bool) -> list[bool]:
    """Return for each turn whether a history may begin there: it has a question, and no later result lacks its call."""
    callers: dict[str, int] = {}  # by a call's id, which providers repeat: the last turn so far that made one
    unanswered: dict[str, int] = {}
    needs: list[int] = []  # for each turn, the earliest whose calls its results answer
    for at, node in enumerate(history):
        answered = [result.call_id for result in node.tool_results]
        needs.append(min((callers.get(call_id, at) for call_id in answered), default=at))
        for call_id in answered:
            unanswered.pop(call_id, None)
        answer = node.response
        made = {} if answer is None else {call.call_id: at for call in (*answer.tools(), *answer.approvals())}
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


def _answer_parts(node: ConversationNode) -> tuple[Part, ...]:
    """Return a turn's answer without its reasoning."""
    parts = () if node.response is None else node.response.choices[0].parts
    return tuple(part for part in parts if not isinstance(part, ReasoningPart))


def _reported_answer(node: ConversationNode) -> int | None:
    """Return the reported tokens of the answer without reasoning; None if they were not reported separately."""
    if node.response is None:
        return 0
    usage, answers = _usage(node), node.response.choices
    if usage is None or usage.output_tokens is None or len(answers) != 1:
        return None
    if any(isinstance(part, FilePart) for part in answers[0].parts):
        return None  # generating an image and reading it take different numbers of tokens
    if usage.reasoning_tokens is None and any(isinstance(part, ReasoningPart) for part in answers[0].parts):
        return None
    answer_tokens = usage.output_tokens - (usage.reasoning_tokens or 0)
    return answer_tokens if answer_tokens > 0 else None


def _reported_question(node: ConversationNode, before: ConversationNode) -> int | None:
    """Return the tokens that a prompt has more than the previous prompt and answer; None if other things changed."""
    here, there = _usage(node), _usage(before)
    if here is None or there is None or here.input_tokens is None or there.input_tokens is None:
        return None
    if node.origin is None or before.origin is None or not node.origin.same_model(before.origin):
        return None
    if node.parent_id not in (None, before.id) or node.instructions != before.instructions:
        return None
    answer_tokens = _reported_answer(before)
    if answer_tokens is None:
        return None
    question_tokens = here.input_tokens - there.input_tokens - answer_tokens
    return question_tokens if question_tokens > 0 and _same_history(node, before) else None


def _same_history(node: ConversationNode, before: ConversationNode) -> bool:
    """Whether both prompts left out the same turns, and no reasoning was sent, whose counting is unknown."""
    if _left_out(node) != _left_out(before):
        return False
    return not any(
        part.kind == "reasoning" and part.node == before.id and part.outcome != "omitted"
        for part in node.conversion.parts
    )


def _left_out(node: ConversationNode) -> set[str | None]:
    return {entry.node for entry in node.conversion.entries if entry.code == "truncated"}


def _usage(node: ConversationNode) -> Usage | None:
    """Return the reported usage of a turn; None if it was not reported, or includes rounds of hosted tools."""
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
            values = () if part.report else (part.input, part.output)
            return sum(estimated_tokens(text_of(value)) for value in values if value is not None)
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
