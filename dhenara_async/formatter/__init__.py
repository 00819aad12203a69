"""Converts a history for the next model, and reports every change. Pure."""
