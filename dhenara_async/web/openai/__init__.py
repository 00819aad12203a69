"""The OpenAI-compatible front: any endpoint or plan, by its name, for clients of Chat Completions and of Responses.

``app`` is what the routes do, for every framework; ``chat`` and ``responses`` read and write the two protocols.
``known_answers`` recognises our own answers in a history that is sent back without ids, by its ``fingerprint``.
"""
