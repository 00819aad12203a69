"""The conformance kit for drivers: tests every promise on one endpoint and recorded answers.

For authors of drivers. One call in a test is enough::

    from dhenara_async.testing import Recorded, check_driver

    def test_acme_conforms() -> None:
        check_driver(
            AIModelEndpoint(api=AIModelAPI(provider="acme"), ai_model=AIModel(model_name="acme-1")),
            answers=[
                Recorded(STREAM, stream=True, plain=PLAIN, text="Good day", echoes=("sealed",)),
                Recorded(CALLING, calls=[("add", '{"a": 1}')], finish_reason=FinishReason.TOOL_CALLS),
                Recorded(REFUSAL, status=429, error=RateLimitError),
            ],
        )

``PROMISES`` lists the promises. Nothing is sent, no key is needed, and the same bytes always give the same result.
"""

from collections.abc import Collection, Iterable

from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import ConfigurationError
from dhenara_async.testing.conformance.bench import Apart, Bench, Recorded, is_refusal
from dhenara_async.testing.conformance.decoding import check_answer
from dhenara_async.testing.conformance.encoding import check_encoding
from dhenara_async.testing.conformance.findings import PROMISES, Findings, Promise
from dhenara_async.testing.conformance.refusals import check_errors, check_refusal

__all__ = ["PROMISES", "Apart", "Promise", "Recorded", "check_driver"]


def check_driver(
    endpoint: AIModelEndpoint, answers: Iterable[Recorded], *, except_for: Collection[Promise] = ()
) -> None:
    """Test every promise of the driver of ``endpoint``, and report all that are broken at once.

    The test uses the driver that a call would use, so its dialect and host must be registered before. ::

        check_driver(endpoint, [Recorded(b'{"said": …}', text="Good day")])

    Args:
        endpoint: A model at a host. Its key is not used, and none is needed.
        answers: Answers of the provider, streamed and plain, with text, reasoning and calls: more kinds of answers
            test more.
        except_for: Promises that are not tested, for example because the host never marks the end of an answer.

    Raises:
        AssertionError: Promises are broken; the message names each, with the case that was tried.
        ConfigurationError: There are no answers, or the endpoint's host or dialect is not registered.
        ValueError: ``except_for`` names a promise that does not exist.
    """
    recordings = list(answers)
    if not recordings:
        raise ConfigurationError("check_driver needs at least one answer: pass answers=[Recorded(body)]")
    bench, findings = Bench.of(endpoint), Findings(except_for)
    origin = bench.origin  # raises for an unknown host or dialect before any test
    forms = {
        form
        for recorded in recordings
        if not is_refusal(recorded)
        for form in ((recorded.stream,) if recorded.plain is None else (True, False))
    }
    check_encoding(bench, findings, both_ways=len(forms) > 1)
    for number, recorded in enumerate(recordings):
        where = f"answer {recorded.name or number}"
        if is_refusal(recorded):
            check_refusal(bench, recorded, where, findings)
        else:
            check_answer(bench, recorded, where, findings)
    check_errors(bench, findings)
    findings.raise_if_any(f"the driver of {origin.model} at {origin.provider} ({origin.dialect})")
