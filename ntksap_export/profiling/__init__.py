"""Latency and memory, measured in fresh processes.

Import from the sub-modules: the measuring process must not load more than it measures.
"""
