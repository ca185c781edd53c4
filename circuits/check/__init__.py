"""`opgate circuit check`: whether a model becomes a circuit that computes it, before anything is built; or why not."""
