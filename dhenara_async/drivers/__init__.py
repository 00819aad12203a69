"""Wire dialects, one a file: pure codecs between the canonical question and answer and a provider's JSON.

Nothing here awaits, opens a socket, reads a clock or logs. ``base`` holds the contract and what every dialect needs.
"""
