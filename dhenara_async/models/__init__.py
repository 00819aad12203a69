"""Foundation models, a file per maker: ``from dhenara_async.models.anthropic import ClaudeSonnet55``.

Makers: ``openai``, ``anthropic``, ``google``, ``deepseek``, ``mistral``, ``xai``; hosts of other people's models:
``groq``, ``cerebras``. Constants only: any other id works as ``AIModel(model_name="…")``, and is taken for the newest
of its family. A model with ``retired_on`` warns from that day on when it is called at its maker's own host.
"""
