"""The sub-commands of the verifier package, each behind one entry point."""
