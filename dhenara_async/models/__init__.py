"""Foundation models, a file per maker: ``from dhenara_async.models.anthropic import ClaudeSonnet55``.

Constants only. Any other id works as ``AIModel(model_name="…")``.
"""
