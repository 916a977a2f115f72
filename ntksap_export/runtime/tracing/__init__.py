"""What each node of a network takes, from the runtimes' own counters: in runs of their own, never in those whose
latency is reported, for being watched slows them down.

Import from the sub-modules: a process that times onnxruntime must not load torch.
"""
