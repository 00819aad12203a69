"""Tokens, their prices, and budgets for both."""
