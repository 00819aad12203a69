"""Chat Completions: requests are read by ``input``, answers are written by ``frames`` and sent by ``feeds``."""
