"""Conversations as data: nodes, and the tree that they form. Nothing here calls a model."""

from dhenara_async.conversation.node import ConversationNode, question, question_order
from dhenara_async.conversation.tree import Conversation, LoadedTurns

__all__ = ["Conversation", "ConversationNode", "LoadedTurns", "question", "question_order"]
