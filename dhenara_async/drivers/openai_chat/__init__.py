"""OpenAI Chat Completions, and its compatible hosts."""
