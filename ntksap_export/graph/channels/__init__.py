"""Channels through a graph: which belong together, which are constant, which somebody reads."""
