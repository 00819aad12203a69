"""One call, from the question to the last event: preparing, sending, reading, retrying, folding."""
