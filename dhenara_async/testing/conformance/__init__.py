"""The conformance kit for drivers: every promise, tested on one endpoint and recorded answers.

For authors of drivers. One call in a test of theirs is enough::

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

What is tried is listed in ``PROMISES``. Nothing is sent, no key is needed, and the same bytes give the same verdict.
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

    The driver is the one that a call would use, so its dialect and its host have to be registered before. ::

        check_driver(endpoint, [Recorded(b'{"said": …}', text="Good day")])

    Args:
        endpoint: A model at a host. Its key is not used, nor is one needed.
        answers: What the provider has sent, some streamed and some plain, with text, reasoning and calls among it: the
            more kinds there are, the more is tried.
        except_for: Promises that cannot be kept, say because the host itself never tells that its answer is whole.

    Raises:
        AssertionError: Promises are broken; the message has each with its name and what was tried.
        ConfigurationError: There are no answers, or the endpoint's host or dialect is not registered.
        ValueError: ``except_for`` names a promise that there is not.
    """
    known = list(answers)
    if not known:
        raise ConfigurationError("check_driver needs answers to read: Recorded(body) is one")
    bench, findings = Bench.of(endpoint), Findings(except_for)
    origin = bench.origin  # an unknown host or dialect is told before anything is tried
    forms = {
        form for one in known if not is_refusal(one) for form in ((one.stream,) if one.plain is None else (True, False))
    }
    check_encoding(bench, findings, both_ways=len(forms) > 1)
    for number, recorded in enumerate(known):
        where = f"answer {recorded.name or number}"
        if is_refusal(recorded):
            check_refusal(bench, recorded, where, findings)
        else:
            check_answer(bench, recorded, where, findings)
    check_errors(bench, findings)
    findings.raise_if_any(f"the driver of {origin.model} at {origin.provider} ({origin.dialect})")
