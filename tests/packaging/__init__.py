"""Tests of what is shipped: the tree, the base install, the root command and the doctor."""
