"""Single-operator graphs, generated."""
