"""Measurements against a loopback server: ``python -m benchmarks --help``. Not part of the installed package."""
