"""Limits on concurrency, requests and tokens for each endpoint."""
