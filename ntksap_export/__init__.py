"""Prune a network before it is trained, train it sparse, store it sparse, export it, and measure what it costs.

Names are loaded when they are first used, so that `import ntksap_export` and `ntksap --help` do not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "models": "ntksap_export.models",
    "data": "ntksap_export.data",
    "recipes": "ntksap_export.recipes",
    "Budget": "ntksap_export.pruning:Budget",
    "NtkSap": "ntksap_export.pruning:NtkSap",
    "ScoringInputs": "ntksap_export.pruning:ScoringInputs",
    "prune": "ntksap_export.pruning:prune",
    "prune_channels": "ntksap_export.pruning:prune_channels",
    "ChannelPlan": "ntksap_export.pruning:ChannelPlan",
    "make_scorer": "ntksap_export.pruning:make_scorer",
    "Mask": "ntksap_export.masks:Mask",
    "Unstructured": "ntksap_export.masks:Unstructured",
    "NofM": "ntksap_export.masks:NofM",
    "Block": "ntksap_export.masks:Block",
    "parse_pattern": "ntksap_export.masks:parse_pattern",
    "to_torch_prune_": "ntksap_export.masks:to_torch_prune_",
    "from_torch_prune": "ntksap_export.masks:from_torch_prune",
    "layer_costs": "ntksap_export.masks:layer_costs",
    "mask_health": "ntksap_export.masks:mask_health",
    "mask_table": "ntksap_export.masks:mask_table",
    "TrainConfig": "ntksap_export.training:TrainConfig",
    "train": "ntksap_export.training:train",
    "evaluate": "ntksap_export.training:evaluate",
    "keep_pruned": "ntksap_export.training:keep_pruned",
    "Provenance": "ntksap_export.checkpoint:Provenance",
    "SparseCheckpoint": "ntksap_export.checkpoint:SparseCheckpoint",
    "open_checkpoint": "ntksap_export.checkpoint:open_checkpoint",
    "library_versions": "ntksap_export.checkpoint:library_versions",
    "Graph": "ntksap_export.graph:Graph",
    "PASSES": "ntksap_export.graph:PASSES",
    "export": "ntksap_export.graph:export",
    "optimize": "ntksap_export.graph:optimize",
    "OrtSession": "ntksap_export.runtime.ort:OrtSession",
    "TorchSession": "ntksap_export.runtime.eager:TorchSession",
    "check_parity": "ntksap_export.runtime.parity:check_parity",
    "Limits": "ntksap_export.runtime.parity:Limits",
    "verify": "ntksap_export.runtime.verify:verify",
    "measure_latency": "ntksap_export.profiling.measure:measure_latency",
    "optimize_file": "ntksap_export.pipeline.optimizing:optimize_file",
    "run_road": "ntksap_export.pipeline:run_road",
    "run_stage": "ntksap_export.pipeline:run_stage",
    "sweep": "ntksap_export.pipeline:sweep",
    "make_config": "ntksap_export.config:make_config",
    "NtksapError": "ntksap_export.errors:NtksapError",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ntksap_export' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return __all__
