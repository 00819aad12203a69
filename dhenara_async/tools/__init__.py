"""Functions as tools, running them, and structured output."""
