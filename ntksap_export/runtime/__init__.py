"""Things that run: one `Session` contract over several backends.

Import from the sub-modules: a process that times onnxruntime must not load torch.
"""
