"""The demo: the whole story with separate processes on one machine, and the attacks on it."""
