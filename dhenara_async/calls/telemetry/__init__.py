"""Ready-made observers, which stand on the protocol ``Observer`` alone: traces and metrics, and one log line a call."""
