"""Answers in web apps: ``web.starlette`` and ``web.aiohttp`` send them, ``web.frames`` writes the protocols."""
