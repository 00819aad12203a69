"""A history made legal for the next model, with a report of everything that changed. Pure."""
