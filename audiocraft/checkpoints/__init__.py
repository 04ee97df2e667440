"""From a name to weights, and from weights to files: where models lie, what their folders hold, how it is read."""
