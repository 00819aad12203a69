"""Checked input of clients: the bodies of ``useChat`` and AG-UI. Pure; nothing in a body is trusted as history."""
