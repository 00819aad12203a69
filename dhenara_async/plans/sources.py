"""Builds the event source of a plan from the event sources of its targets, so that plans nest.

The reader of a plan's stream receives one answer in the event grammar of a single endpoint. The call's record holds
the rest: every request, the decision of each plan, and the seams.

``context`` has the data of the call, ``continuation`` the messages for an endpoint that continues an answer, and each
kind of plan has a file of its own. Those files receive ``source_of`` as a parameter, so that none imports this one.
"""

from dhenara_async.calls.source import EventSource
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.plans.context import OpenEndpoint, PlanContext
from dhenara_async.plans.continuation import endpoint_source
from dhenara_async.plans.failover import FailoverSource
from dhenara_async.plans.race import RaceSource
from dhenara_async.plans.routed import RoutedSource
from dhenara_async.plans.targets import Experiment, Failover, Race, Router, Target, decided

__all__ = ["OpenEndpoint", "PlanContext", "source_of"]


def source_of(target: Target, context: PlanContext) -> EventSource:
    """Build the event source of ``target``; nothing is sent yet.

    Raises:
        ConfigurationError: No endpoint of the target can be called with this configuration.
        UnsupportedError: No endpoint of the target supports the whole request.
    """
    match target:
        case AIModelEndpoint():
            return endpoint_source(target, context)
        case Failover():
            return FailoverSource(target, context, source_of)
        case Race():
            return RaceSource(target, context, source_of)
        case Router() | Experiment():
            chosen, decision = decided(target, context.context)
            return RoutedSource(source_of(chosen, context), decision)
