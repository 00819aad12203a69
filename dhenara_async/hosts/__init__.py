"""Providers: addresses, keys, dialects and differences of each host, one row a provider."""
