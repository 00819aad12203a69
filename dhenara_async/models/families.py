"""Derives the capabilities of a model from its id.

Old generations are listed; any other id of a family is treated as its newest model, because makers publish new ids
every month and an old rule would break them. A model of no listed family is assumed to accept every setting.

Sources: the makers' model pages and SDK literals, what other clients' live tests found, and recorded answers, which
take precedence where they disagree (read 2026-11-22).
"""

import re
from functools import lru_cache

from dhenara_async.endpoint import AIModel, Capabilities

_ANYTHING = Capabilities()
_NO_THINKING = Capabilities(reasoning="none", efforts=())
_ALWAYS_REASONS = Capabilities(efforts=(), reasoning_off=False)  # it always reasons, and there is no setting for it


def _with(base: Capabilities, **changes: object) -> Capabilities:
    return Capabilities.model_validate(base.model_dump() | changes)


# ---------------------------------------------------------------------------------------------------- OpenAI

_PLAIN_GPT = _NO_THINKING
_EARLY_GPT = _with(_PLAIN_GPT, structured_output=False)
_GPT = Capabilities(
    sampling=False,
    stop=False,
    developer_role=True,
    efforts=("low", "medium", "high", "xhigh", "max"),
    reasoning_off=False,
)
_O_SERIES = _with(_GPT, efforts=("low", "medium", "high"))
_EARLY_O = _with(_O_SERIES, stop=True)
_O1_PREVIEW = _with(_EARLY_O, efforts=(), developer_role=False, structured_output=False)
_GPT_5 = _with(_GPT, efforts=("minimal", "low", "medium", "high"))
_GPT_5_PRO = _with(_GPT, efforts=("high",))
_GPT_5_CODEX = _O_SERIES
_GPT_51_CODEX_MAX = _with(_GPT, efforts=("low", "medium", "high", "xhigh"))
_GPT_5X_PRO = _with(_GPT, efforts=("medium", "high", "xhigh"))
_GPT_5X_CHAT = _with(_GPT, efforts=("medium",))
# These reason only on request, and sample until then.
_GPT_51 = _with(_GPT, sampling=True, quiet_sampling=True, efforts=("none", "low", "medium", "high"), reasoning_off=True)
_GPT_52 = _with(_GPT_51, efforts=("none", "low", "medium", "high", "xhigh"))
# These reason by default, and sample only without reasoning.
_GPT_55 = _with(_GPT_52, sampling=False)
_GPT_56 = _with(_GPT_55, efforts=("none", "low", "medium", "high", "xhigh", "max"))
_GPT_6_WITH_OFF = _with(_GPT_56, quiet_sampling=False)
_GPT_OSS = Capabilities(efforts=("low", "medium", "high"), reasoning_off=False)

# ---------------------------------------------------------------------------------------------------- Anthropic

_CLAUDE = Capabilities(
    sampling=False,
    seed=False,
    prefill=False,
    reasoning="adaptive",
    efforts=("low", "medium", "high", "xhigh", "max"),
)
_CLAUDE_MYTHOS = _with(_CLAUDE, reasoning_off=False, forced_tools=False)
_CLAUDE_FABLE_5 = _CLAUDE_MYTHOS
_CLAUDE_FABLE = _with(_CLAUDE_FABLE_5, prefix_bound=True)
_CLAUDE_46 = _with(
    _CLAUDE,
    sampling=True,
    quiet_sampling=True,
    efforts=("low", "medium", "high", "max"),
    reasoning_budget=True,
)
_CLAUDE_45 = Capabilities(
    quiet_sampling=True, seed=False, reasoning="budget", efforts=(), reasoning_budget=True, quiet_forcing=True
)
_CLAUDE_4 = _with(_CLAUDE_45, structured_output=False)
_CLAUDE_37 = _CLAUDE_4
_EARLY_CLAUDE = _with(_NO_THINKING, seed=False, structured_output=False)

# ---------------------------------------------------------------------------------------------------- Google

_GEMINI = Capabilities(reasoning="level", efforts=("minimal", "low", "medium", "high"), reasoning_budget=True)
_GEMINI_WITHOUT_MINIMAL = _with(_GEMINI, efforts=("low", "medium", "high"), reasoning_off=False)
_GEMINI_3_PRO = _with(_GEMINI_WITHOUT_MINIMAL, efforts=("low", "high"))
_GEMINI_25 = Capabilities(reasoning="budget", efforts=(), reasoning_budget=True)
_GEMINI_25_PRO = _with(_GEMINI_25, reasoning_off=False)
_GEMINI_25_IMAGE = _with(_NO_THINKING, forced_tools=False, structured_output=False)

# ---------------------------------------------------------------------------------------------------- others

_DEEPSEEK = Capabilities(
    efforts=("low", "high", "max"), forced_tools=False, quiet_forcing=True, structured_output=False
)
_DEEPSEEK_REASONER = _with(_ALWAYS_REASONS, forced_tools=False, structured_output=False)
_DEEPSEEK_CHAT = _with(_NO_THINKING, structured_output=False)
_MISTRAL = Capabilities(efforts=("none", "high"))
_GROK = Capabilities(stop=False, efforts=("low", "medium", "high"), reasoning_off=False)
_GROK_43 = _with(_GROK, efforts=("none", "low", "medium", "high"), reasoning_off=True)
_GROK_4 = _with(_ALWAYS_REASONS, stop=False)
_GROK_3_MINI = _with(_GROK, efforts=("low", "high"))

_RULES: tuple[tuple[re.Pattern[str], Capabilities], ...] = tuple(
    (re.compile(pattern), capabilities)
    for pattern, capabilities in (
        # a deployment's name can contain anything, so a family is matched only at the start of an id
        (r"claude-3-7", _CLAUDE_37),
        (r"claude-(2|3|instant)", _EARLY_CLAUDE),
        (r"claude-opus-4-1", _CLAUDE_45),
        (r"claude-(opus|sonnet|haiku)-4(-0)?(-\d{8}|-latest|@\d{8})?$", _CLAUDE_4),
        (r"claude-(opus|sonnet|haiku)-4-5", _CLAUDE_45),
        (r"claude-(opus|sonnet)-4-6", _CLAUDE_46),
        (r"claude-fable-5(-0)?(-latest|[-@]\d{8})?(-v\d+(:\d+)?)?$", _CLAUDE_FABLE_5),
        (r"claude-fable", _CLAUDE_FABLE),
        (r"claude-mythos", _CLAUDE_MYTHOS),
        (r"claude-", _CLAUDE),
        (r"gpt-oss|openai/gpt-oss", _GPT_OSS),
        (r"gpt-4o-2024-05-13|gpt-4(-|$)|gpt-3|text-|davinci|chatgpt-4", _EARLY_GPT),
        (r"gpt-4|gpt-audio|gpt-realtime|gpt-5-chat", _PLAIN_GPT),
        (r"o1-(mini|preview)", _O1_PREVIEW),
        (r"o1|o3-mini", _EARLY_O),
        (r"o\d|computer-use", _O_SERIES),
        (r"gpt-5\.\d+-chat", _GPT_5X_CHAT),
        (r"gpt-5-pro", _GPT_5_PRO),
        (r"gpt-5\.\d+-pro", _GPT_5X_PRO),
        (r"gpt-5\.1-codex-max", _GPT_51_CODEX_MAX),
        (r"gpt-5(\.1)?-codex|codex-", _GPT_5_CODEX),
        (r"gpt-5(-|$)", _GPT_5),
        (r"gpt-5\.1(-|$)", _GPT_51),
        (r"gpt-5\.[234](-|$)", _GPT_52),
        (r"gpt-5\.5(-|$)", _GPT_55),
        (r"gpt-5\.6(-|$)", _GPT_56),
        (r"gpt-6-(sol|luna)", _GPT_6_WITH_OFF),
        (r"gpt-", _GPT),
        (r"gemini-(1|2\.0|pro$|exp)", _NO_THINKING),
        (r"gemini-2\.5-flash-image", _GEMINI_25_IMAGE),
        (r"gemini-2\.5-pro", _GEMINI_25_PRO),
        (r"gemini-2\.5", _GEMINI_25),
        (r"gemini-3-pro", _GEMINI_3_PRO),
        (r"gemini-(.*-)?pro|gemini-3\.7-flash", _GEMINI_WITHOUT_MINIMAL),
        (r"gemini-", _GEMINI),
        (r"gemma-?[123]", _NO_THINKING),
        (r"deepseek-r\d", _ALWAYS_REASONS),
        (r"deepseek-reasoner", _DEEPSEEK_REASONER),
        (r"deepseek-(chat|coder)", _DEEPSEEK_CHAT),
        (r"deepseek-", _DEEPSEEK),
        (r"magistral", _ALWAYS_REASONS),
        (r"(open-)?mi[sx]tral-(tiny|nemo|saba|(large|medium|small)-2[345]\d\d|\d+x?\d*b)", _NO_THINKING),
        (r"codestral|devstral|ministral|pixtral", _NO_THINKING),
        (r"mistral-(?!.*:)", _MISTRAL),
        (r"grok-([12]|3(?!-mini))|grok-.*non-reasoning", _NO_THINKING),
        (r"grok-3-mini", _GROK_3_MINI),
        (r"grok-4\.3", _GROK_43),
        (r"grok-(4(-|$|\.1|\.20)|code)", _GROK_4),
        (r"grok-", _GROK),
        (r"(meta-llama/)?llama-?[1234]", _NO_THINKING),
    )
)
# Prefixes that clouds put before a maker's id, and OpenAI before the base of a fine-tuned model's id.
_PREFIX = re.compile(r"(models/|ft:|((us|eu|apac|jp|au|global)\.)?(openai|anthropic)\.)")


def capabilities(model: AIModel) -> Capabilities:
    """Return the capabilities of ``model``: those it declares, else those derived from its id."""
    if model.capabilities is not None:
        return model.capabilities
    return _derived_from(model.model_name)


@lru_cache(maxsize=1024)  # called several times a call with few different ids, against fifty patterns
def _derived_from(name: str) -> Capabilities:
    name = name.lower()
    prefix = _PREFIX.match(name)
    if prefix is not None:
        name = name[prefix.end() :]
    return next((found for pattern, found in _RULES if pattern.match(name)), _ANYTHING)
