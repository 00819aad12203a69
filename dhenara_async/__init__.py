"""Async streaming for many AI providers: one event type, and conversations that change model at every turn.

Public names are loaded on first use, which keeps the import of the package fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dhenara_async.calls.loop import LoopStream
    from dhenara_async.calls.observer import Observer
    from dhenara_async.calls.records import (
        AttemptEnded,
        AttemptStarted,
        CallContent,
        CallEnded,
        CallStarted,
        EndpointEnded,
        EndpointStarted,
        FanOutEnded,
        FanOutStarted,
        FirstContent,
        LoopEnded,
        LoopStarted,
        ToolEnded,
        ToolStarted,
        TraceIds,
    )
    from dhenara_async.calls.shared import SharedResources
    from dhenara_async.calls.stream import ResponseStream
    from dhenara_async.calls.telemetry.logging import LoggingObserver
    from dhenara_async.calls.telemetry.opentelemetry import OpenTelemetryObserver
    from dhenara_async.client import AIModelClient
    from dhenara_async.config import AIModelCallConfig, Bounds, FetchPolicy, PromptCache, RetryPolicy, Timeouts
    from dhenara_async.conversation import Conversation, ConversationNode
    from dhenara_async.drivers.openai_chat.quirks import Quirks
    from dhenara_async.endpoint import (
        AIModel,
        AIModelAPI,
        AIModelAPIProviderEnum,
        AIModelEndpoint,
        Capabilities,
        Dialect,
    )
    from dhenara_async.events import (
        ChoiceFinish,
        Heartbeat,
        PartEnd,
        PartStart,
        ReasoningDelta,
        RefusalDelta,
        StepStart,
        StreamEnd,
        StreamEvent,
        StreamReset,
        StreamSeam,
        StreamStart,
        TextDelta,
        ToolApprovalRequest,
        ToolCallDelta,
        ToolEnd,
        ToolProgress,
        ToolStart,
        UsageUpdate,
        event_to_dict,
        event_to_json,
    )
    from dhenara_async.fanout import FanOut, as_completed, fan_out, first_of, gather
    from dhenara_async.fanout.values import FanOutProgress, ModelCall, Outcome, TaggedBatch, TaggedEvent
    from dhenara_async.formatter.check import ConversionCheck
    from dhenara_async.formatter.conversion import ConversionEntry, ConversionPolicy, ConversionReport, PartOutcome
    from dhenara_async.formatter.formatter import FormattedConversation, PromptFormatter
    from dhenara_async.formatter.window import ConversationPolicy
    from dhenara_async.hosts.registry import register_driver, register_host
    from dhenara_async.hosts.table import Host
    from dhenara_async.limits.limiter import Limiter, Limits, LocalLimiter
    from dhenara_async.manager import ConversationManager
    from dhenara_async.messages.messages import (
        Citation,
        FilePart,
        HostedToolPart,
        JsonPart,
        Message,
        Origin,
        ReasoningPart,
        RefusalPart,
        Role,
        TextPart,
        TokenLogprob,
        ToolCallPart,
        ToolOrigin,
        ToolResultPart,
    )
    from dhenara_async.plans.targets import Experiment, Failover, Race, Router, Target
    from dhenara_async.response import (
        AIModelCallResponse,
        Attempt,
        CallWarning,
        ChatResponse,
        Choice,
        Decision,
        FinishReason,
        Latency,
        Seam,
    )
    from dhenara_async.tools.declarations import HostedTool, NamedTool, Tool
    from dhenara_async.tools.functions import ToolContext
    from dhenara_async.tools.mcp.server import McpServer
    from dhenara_async.tools.policy import Pending, ToolPolicy
    from dhenara_async.tools.run import run_tools
    from dhenara_async.tools.sessions import mcp_pins
    from dhenara_async.transport import Transport
    from dhenara_async.transport.aiohttp_transport import AiohttpTransport
    from dhenara_async.transport.httpx_transport import HttpxTransport
    from dhenara_async.turns.fan_out import TurnFanOut
    from dhenara_async.turns.log import Journal
    from dhenara_async.turns.reader import TurnReader
    from dhenara_async.turns.turn import Turn
    from dhenara_async.usage.budget import Budget
    from dhenara_async.usage.prices import Pricing, Rates
    from dhenara_async.usage.tokens import Usage

__version__ = "0.1.0"

_NAMES_BY_MODULE = {
    "usage.budget": "Budget",
    "client": "AIModelClient",
    "config": "AIModelCallConfig Bounds FetchPolicy PromptCache RetryPolicy Timeouts",
    "conversation": "Conversation ConversationNode",
    "formatter.conversion": "ConversionEntry ConversionPolicy ConversionReport PartOutcome",
    "drivers.openai_chat.quirks": "Quirks",
    "endpoint": "AIModel AIModelAPI AIModelAPIProviderEnum AIModelEndpoint Capabilities Dialect",
    "events": (
        "ChoiceFinish Heartbeat PartEnd PartStart ReasoningDelta RefusalDelta StepStart StreamEnd StreamEvent "
        "StreamReset StreamSeam StreamStart TextDelta ToolApprovalRequest ToolCallDelta ToolEnd ToolProgress ToolStart "
        "UsageUpdate "
        "event_to_dict event_to_json"
    ),
    "fanout": "FanOut as_completed fan_out first_of gather",
    "turns.fan_out": "TurnFanOut",
    "fanout.values": "FanOutProgress ModelCall Outcome TaggedBatch TaggedEvent",
    "formatter.formatter": "FormattedConversation PromptFormatter",
    "formatter.check": "ConversionCheck",
    "hosts.registry": "register_driver register_host",
    "hosts.table": "Host",
    "limits.limiter": "Limiter Limits LocalLimiter",
    "manager": "ConversationManager",
    "calls.observer": "Observer",
    "calls.records": (
        "AttemptEnded AttemptStarted CallContent CallEnded CallStarted EndpointEnded EndpointStarted "
        "FanOutEnded FanOutStarted FirstContent LoopEnded LoopStarted ToolEnded ToolStarted TraceIds"
    ),
    "calls.telemetry.logging": "LoggingObserver",
    "calls.telemetry.opentelemetry": "OpenTelemetryObserver",
    "calls.shared": "SharedResources",
    "messages.messages": (
        "Citation FilePart HostedToolPart JsonPart Message Origin ReasoningPart RefusalPart Role TextPart TokenLogprob "
        "ToolCallPart ToolOrigin ToolResultPart"
    ),
    "usage.prices": "Pricing Rates",
    "response": "AIModelCallResponse Attempt CallWarning ChatResponse Choice Decision FinishReason Latency Seam",
    "calls.loop": "LoopStream",
    "calls.stream": "ResponseStream",
    "plans.targets": "Experiment Failover Race Router Target",
    "turns.log": "Journal",
    "turns.reader": "TurnReader",
    "tools.mcp.server": "McpServer",
    "tools.sessions": "mcp_pins",
    "tools.policy": "Pending ToolPolicy",
    "tools.run": "run_tools",
    "tools.functions": "ToolContext",
    "tools.declarations": "HostedTool NamedTool Tool",
    "transport": "Transport",
    "transport.aiohttp_transport": "AiohttpTransport",
    "transport.httpx_transport": "HttpxTransport",
    "turns.turn": "Turn",
    "usage.tokens": "Usage",
    "formatter.window": "ConversationPolicy",
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}

__all__ = [
    "AIModel",
    "AIModelAPI",
    "AIModelAPIProviderEnum",
    "AIModelCallConfig",
    "AIModelCallResponse",
    "AIModelClient",
    "AIModelEndpoint",
    "AiohttpTransport",
    "Attempt",
    "AttemptEnded",
    "AttemptStarted",
    "Bounds",
    "Budget",
    "CallContent",
    "CallEnded",
    "CallStarted",
    "CallWarning",
    "Capabilities",
    "ChatResponse",
    "Choice",
    "ChoiceFinish",
    "Citation",
    "Conversation",
    "ConversationManager",
    "ConversationNode",
    "ConversationPolicy",
    "ConversionCheck",
    "ConversionEntry",
    "ConversionPolicy",
    "ConversionReport",
    "Decision",
    "Dialect",
    "EndpointEnded",
    "EndpointStarted",
    "Experiment",
    "Failover",
    "FanOut",
    "FanOutEnded",
    "FanOutProgress",
    "FanOutStarted",
    "FetchPolicy",
    "FilePart",
    "FinishReason",
    "FirstContent",
    "FormattedConversation",
    "Heartbeat",
    "Host",
    "HostedTool",
    "HostedToolPart",
    "HttpxTransport",
    "Journal",
    "JsonPart",
    "Latency",
    "Limiter",
    "Limits",
    "LocalLimiter",
    "LoggingObserver",
    "LoopEnded",
    "LoopStarted",
    "LoopStream",
    "McpServer",
    "Message",
    "ModelCall",
    "NamedTool",
    "Observer",
    "OpenTelemetryObserver",
    "Origin",
    "Outcome",
    "PartEnd",
    "PartOutcome",
    "PartStart",
    "Pending",
    "Pricing",
    "PromptCache",
    "PromptFormatter",
    "Quirks",
    "Race",
    "Rates",
    "ReasoningDelta",
    "ReasoningPart",
    "RefusalDelta",
    "RefusalPart",
    "ResponseStream",
    "RetryPolicy",
    "Role",
    "Router",
    "Seam",
    "SharedResources",
    "StepStart",
    "StreamEnd",
    "StreamEvent",
    "StreamReset",
    "StreamSeam",
    "StreamStart",
    "TaggedBatch",
    "TaggedEvent",
    "Target",
    "TextDelta",
    "TextPart",
    "Timeouts",
    "TokenLogprob",
    "Tool",
    "ToolApprovalRequest",
    "ToolCallDelta",
    "ToolCallPart",
    "ToolContext",
    "ToolEnd",
    "ToolEnded",
    "ToolOrigin",
    "ToolPolicy",
    "ToolProgress",
    "ToolResultPart",
    "ToolStart",
    "ToolStarted",
    "TraceIds",
    "Transport",
    "Turn",
    "TurnFanOut",
    "TurnReader",
    "Usage",
    "UsageUpdate",
    "as_completed",
    "event_to_dict",
    "event_to_json",
    "fan_out",
    "first_of",
    "gather",
    "mcp_pins",
    "register_driver",
    "register_host",
    "run_tools",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'dhenara_async' has no attribute {name!r}")
    value: object = getattr(import_module(f"dhenara_async.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
