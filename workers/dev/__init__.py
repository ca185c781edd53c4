"""One machine's network: a Redis and an EVM dev chain that keep their state, started and watched by ``opgate dev``.

No other package may import this one: the actors of the demo reach it by the URLs in ``dev/network.json`` only.
"""
