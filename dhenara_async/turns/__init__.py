"""Turns of conversations: started, answered, followed by readers, queued, and kept as nodes."""
