"""The OpenAI-compatible front: any endpoint or plan, by its name, for clients that speak Chat Completions.

``chat_input`` reads their requests, ``chat_frames`` writes their answers, ``known_answers`` recognises our own answers
in a history that is sent back, and ``app`` is what the routes do, for every framework.
"""
