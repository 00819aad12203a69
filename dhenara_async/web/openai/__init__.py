"""The OpenAI-compatible front: any endpoint or plan, by its name, for clients of Chat Completions and of Responses.

``chat_input`` reads their requests, ``chat_frames`` writes their answers, ``known_answers`` recognises our own answers
in a history that is sent back, and ``app`` is what the routes do, for every framework. ``response_input`` and
``response_frames`` read and write the Responses API, ``response_turns`` makes turns of its requests, and
``kept_responses`` finds them again.
"""
