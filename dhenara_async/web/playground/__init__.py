"""The page to look at conversations with, and its own API, the same for every framework."""
