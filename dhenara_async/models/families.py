"""What an encoder must know of a model, told from its id.

Old generations are listed; everything else of a family is taken for its newest one, because makers publish new ids
every month and an old rule would break them. A model of no family listed here is assumed to take every knob.

Sources: the makers' model pages and SDK literals (read 2026-11-22).
"""

import re

from dhenara_async.endpoint import AIModel, Capabilities

_OLD_CLAUDE = Capabilities(seed=False)
_NEW_CLAUDE = Capabilities(sampling=False, seed=False, prefill=False)
_CLAUDE_4_6 = Capabilities(seed=False, prefill=False)
_OLD_GPT = Capabilities()
_REASONING_GPT = Capabilities(sampling=False, stop=False, seed=False, developer_role=True)
_QUIET_GPT = Capabilities(stop=False, seed=False, developer_role=True)  # does not reason unless asked to
_EARLY_O = Capabilities(sampling=False, seed=False, developer_role=True)
_GEMINI = Capabilities()

_RULES: tuple[tuple[re.Pattern[str], Capabilities], ...] = tuple(
    (re.compile(pattern), capabilities)
    for pattern, capabilities in (
        (r"claude-(2|3|instant)", _OLD_CLAUDE),
        (r"claude-(opus|sonnet|haiku)-4(-[015])?(-\d{8}|-latest|@\d{8})?$", _OLD_CLAUDE),
        (r"claude-(opus|sonnet)-4-6", _CLAUDE_4_6),
        (r"claude-", _NEW_CLAUDE),
        (r"(ft:)?(gpt-3|gpt-4|chatgpt-4|text-|davinci)", _OLD_GPT),
        (r"gpt-oss", _OLD_GPT),
        (r"gpt-5\.[1-5](?!.*-chat)", _QUIET_GPT),
        (r"(ft:)?(o1|o3-mini)", _EARLY_O),
        (r"(ft:)?(o\d|gpt-|codex-|computer-use)", _REASONING_GPT),
        (r"gemini-", _GEMINI),
    )
)
_ANYTHING = Capabilities()


def capabilities(model: AIModel) -> Capabilities:
    """What ``model`` can take: what it says of itself, else what its id tells."""
    if model.capabilities is not None:
        return model.capabilities
    name = model.model_name
    return next((found for pattern, found in _RULES if pattern.match(name)), _ANYTHING)
