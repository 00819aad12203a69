"""The routes of a chat app, the same for every framework."""
