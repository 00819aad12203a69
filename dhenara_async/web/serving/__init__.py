"""The guard of a server that one person runs for themselves: who may reach it, from where, and how much of it."""
