"""``CallInput``: the one record of a question, from the caller's call to the prepared request.

Turns, plans, fan-outs and ``CallPreparer`` hand this record on. It is formatted for an endpoint here and nowhere else.
"""

from dataclasses import dataclass
from uuid import uuid4

from dhenara_async.calls.paused_answers import continued_conversation, continued_messages
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.formatter.check import ConversionCheck
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.formatter.formatter import FormattedConversation, PromptFormatter
from dhenara_async.formatter.window import ConversationPolicy
from dhenara_async.messages.messages import Message
from dhenara_async.plans.targets import RoutingContext
from dhenara_async.stores.signing import SigningKeys


@dataclass(frozen=True, slots=True)
class History:
    """The turns before a question.

    Attributes:
        nodes: All turns, oldest first.
        window: The part of them that is sent; None = everything.
        summary: Words in place of the turns that are not sent; None = no words.
        signing: The keys of signed nodes; None = signatures are not checked.
    """

    nodes: tuple[ConversationNode, ...]
    window: ConversationPolicy | None = None
    summary: str | None = None
    signing: SigningKeys | None = None


@dataclass(slots=True)
class CallInput:
    """The question of one call. Never changed: use ``dataclasses.replace``. (Not frozen, since one is made per call.)

    Attributes:
        messages: The conversation, oldest first; the new question alone where there is a ``history``.
        instructions: System instructions of this call.
        config: Options of this call.
        stream: Whether the provider is asked to stream. The events are the same either way.
        history: The turns before; None where ``messages`` is the whole conversation.
        conversation: The id of the conversation, for plans that route by it; None outside of one.
        node: The id of the turn, likewise.
        parent: The id of the tool loop that the call is a step of, for observers; None outside of one.
        known: The turns whose answers are among ``messages``, where there is no ``history``.
    """

    messages: list[Message]
    instructions: tuple[str, ...]
    config: AIModelCallConfig
    stream: bool
    history: History | None = None
    conversation: str | None = None
    node: str | None = None
    parent: str | None = None
    known: tuple[ConversationNode, ...] = ()

    def formatted(
        self,
        endpoint: AIModelEndpoint,
        policy: ConversionPolicy | None,
        *,
        opaque: bool = True,
        mend: bool = False,
    ) -> FormattedConversation:
        """Format the question and its history for ``endpoint``.

        Args:
            endpoint: The target.
            policy: The conversion policy for content of other models; None = the default policy.
            opaque: Whether opaque reasoning of the history is kept.
            mend: Whether halves of surrogate pairs are replaced.

        Raises:
            ConversionLossError: The policy is strict and content would be lost.
        """
        history = self.history
        if history is None:
            return PromptFormatter.format_messages(
                continued_messages(self.messages, endpoint).asked,
                endpoint,
                policy=policy,
                instructions=self.instructions,
                config=self.config,
                opaque=opaque,
                mend=mend,
                known=self.known,
            )
        nodes, asked = history.nodes, self.messages
        if not asked:
            continued = continued_conversation(nodes, endpoint)
            nodes, asked = continued.nodes, continued.asked
        return PromptFormatter.format_conversation(
            nodes,
            endpoint,
            policy=policy,
            asked=asked,
            instructions=self.instructions,
            config=self.config,
            window=history.window,
            summary=history.summary,
            opaque=opaque,
            mend=mend,
            signing=history.signing,
        )

    def continuation(self, endpoint: AIModelEndpoint) -> str | None:
        """Return the token by which ``endpoint`` goes on with an answer that it cut; None = a new answer."""
        if self.history is None:
            return continued_messages(self.messages, endpoint).token
        return None if self.messages else continued_conversation(self.history.nodes, endpoint).token

    def check(self, endpoint: AIModelEndpoint, policy: ConversionPolicy | None) -> ConversionCheck:
        """Report the losses, size and price of the question for ``endpoint``, without a network call.

        Raises:
            UnsupportedError: The target cannot be asked this question at all.
        """
        history = self.history or History(())
        return PromptFormatter.check(
            history.nodes,
            endpoint,
            policy=policy,
            asked=self.messages,
            instructions=self.instructions,
            config=self.config,
            window=history.window,
            signing=history.signing,
        )

    def routing_context(self) -> RoutingContext:
        """Build the values that routers and experiments choose by."""
        return RoutingContext(self._all_messages, self.config, uuid4().hex, self.conversation, self.node)

    def _all_messages(self) -> list[Message]:
        before = () if self.history is None else self.history.nodes
        return [*(message for turn in before for message in turn.as_messages()), *self.messages]
