"""OpenAI Chat Completions, and the many hosts that are compatible with it."""
