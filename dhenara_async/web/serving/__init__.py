"""The guard of a server that one person runs for themselves: which clients may reach it, and how often."""
