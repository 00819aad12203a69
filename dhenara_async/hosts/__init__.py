"""Providers: the address, authentication, dialect, framing and quirks of each host."""
