"""The Responses API: ``app`` is what its routes do.

``input``, ``input_items`` and ``options`` read a request. ``turns`` makes a turn of it, with what came before from
``history``; ``ids`` and ``records`` tie a response to its turn, and ``kept_responses`` finds it again. ``frames``
writes the events, ``object`` the whole response, both of ``items``; ``feeds`` sends them.
"""
