"""MCP servers as tools (extra ``mcp``): the server as a value, its connection, its tools, and their results."""
