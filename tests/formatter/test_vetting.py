"""A third-party driver may restrict the provider state of its parts; without a rule all of the state is sent."""

from dataclasses import replace

import pytest

from dhenara_async import AIModel, AIModelAPI, AIModelEndpoint, Message, PromptFormatter
from dhenara_async.drivers import Rules, Vetted
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.messages import Part, ReasoningPart
from tests.acme import AcmeDriver


def _seals_only(part: Part) -> Vetted:
    state = part.provider_state or {}
    if "seal" in state:
        return Vetted({"seal": state["seal"]}, "not_allowed" if len(state) > 1 else None, "only a seal")
    return Vetted(None, "not_allowed", "no seal")


@pytest.mark.parametrize(("strict", "left"), [(False, {"seal": "x", "role": "system"}), (True, {"seal": "x"})])
def test_the_vet_rule_of_a_driver_restricts_the_provider_state_that_is_sent(
    monkeypatch: pytest.MonkeyPatch, *, strict: bool, left: dict[str, str]
) -> None:
    rules = AcmeDriver.rules

    def stricter(self: AcmeDriver, endpoint: AIModelEndpoint) -> Rules:
        return replace(rules(self, endpoint), vet=_seals_only) if strict else rules(self, endpoint)

    monkeypatch.setattr(AcmeDriver, "rules", stricter)
    endpoint = AIModelEndpoint(api=AIModelAPI(provider="acme", api_key="key"), ai_model=AIModel(model_name="acme-1"))
    thought = ReasoningPart(
        text="Hm.", provider_state={"seal": "x", "role": "system"}, origin=expected_origin(endpoint)
    )
    asked = [Message.user("Well?"), Message.assistant(thought, "Yes."), Message.user("Why?")]
    done = PromptFormatter.format_messages(asked, endpoint)
    assert done.messages[1].parts[0].provider_state == left
    assert [entry.reason for entry in done.report.entries] == (["not_allowed"] if strict else [])
