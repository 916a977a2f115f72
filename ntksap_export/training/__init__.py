"""Training under a mask: the loop, the optimizer that leaves zeros alone, and what survives a crash."""

from ntksap_export.training.config import TrainConfig
from ntksap_export.training.log import EpochRow, TrainLog
from ntksap_export.training.loop import evaluate, train
from ntksap_export.training.masking import keep_pruned
from ntksap_export.training.precision import resolve_device, resolve_precision
from ntksap_export.training.schedule import learning_rate
from ntksap_export.training.state import load_state, save_state

__all__ = [
    "EpochRow",
    "TrainConfig",
    "TrainLog",
    "evaluate",
    "keep_pruned",
    "learning_rate",
    "load_state",
    "resolve_device",
    "resolve_precision",
    "save_state",
    "train",
]
