"""Foundation models, a file per maker: ``from dhenara_async.models.anthropic import ClaudeSonnet55``.

Makers: ``openai``, ``anthropic``, ``google``, ``deepseek``, ``mistral``, ``xai``; hosts of other makers' models:
``groq``, ``cerebras``. These are constants only: any other id works as ``AIModel(model_name="…")``, and is treated as
the newest of its family. A model with ``retired_on`` warns from that day on when it is called at its maker's own host.
"""
