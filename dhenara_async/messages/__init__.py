"""Messages and their parts, the provider-neutral content of a conversation, and the files in them."""
