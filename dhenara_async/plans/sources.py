"""Plans over endpoints at work: each is a feed, made of the feeds of its members, so that plans nest.

A reader of a plan's stream sees one answer in the one grammar. Whatever became of other members is data: the account
has every request, what each plan decided, and the seams.

What a plan is asked is in ``question``, what an endpoint is sent that goes on with another's answer in ``handed``; each
kind of plan has a file of its own. Who makes feeds of targets is handed to them, so that none imports this one.
"""

from dhenara_async.calls.source import EventSource
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.plans.context import Ask, PlanContext
from dhenara_async.plans.continuation import answer_of
from dhenara_async.plans.failover import FailoverSource
from dhenara_async.plans.race import RaceSource
from dhenara_async.plans.routed import RoutedSource
from dhenara_async.plans.targets import Experiment, Failover, Race, Router, Target, decided

__all__ = ["Ask", "PlanContext", "source_of"]


def source_of(target: Target, question: PlanContext) -> EventSource:
    """The answer of ``target``.

    Raises:
        ConfigurationError: Nobody of it can be called as asked.
        UnsupportedError: Nobody can be told a part of what is asked.
    """
    match target:
        case AIModelEndpoint():
            return answer_of(target, question)
        case Failover():
            return FailoverSource(target, question, source_of)
        case Race():
            return RaceSource(target, question, source_of)
        case Router() | Experiment():
            chosen, decision = decided(target, question.context)
            return RoutedSource(source_of(chosen, question), decision)
