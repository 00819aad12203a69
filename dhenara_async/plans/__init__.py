"""Plans over several endpoints: fail-over, races, routers and experiments."""
