"""Chooses a circuit's run arguments: what the model must give, what a proof costs, and the cheapest that does both."""
