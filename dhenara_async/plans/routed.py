"""The event source of a target that a router or an experiment chose."""

from dataclasses import replace

from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.source import EventSource
from dhenara_async.plans.wrapper import SourceWrapper
from dhenara_async.response import Decision


class RoutedSource(SourceWrapper):
    """Passes on the events of the chosen target, and adds the decision to its record; see ``EventSource``."""

    def __init__(self, source: EventSource, decision: Decision) -> None:
        super().__init__(source)
        self._decision = decision

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        record = super().account
        return replace(record, plan=(self._decision, *record.plan))
