"""Training under a mask: the loop, the optimizer that leaves zeros alone, and what survives a crash."""

from ntksap_export.training.average import Average
from ntksap_export.training.checkpoints import Checkpoints, forget_states
from ntksap_export.training.clip import clip_norm_
from ntksap_export.training.config import TrainConfig, train_config
from ntksap_export.training.evaluate import evaluate
from ntksap_export.training.log import EpochRow, TrainLog
from ntksap_export.training.loop import train
from ntksap_export.training.masking import keep_pruned
from ntksap_export.training.mixing import MixedLabels, loss_of, mix, right_of
from ntksap_export.training.optimizers import make_optimizer
from ntksap_export.training.precision import resolve_device, resolve_precision
from ntksap_export.training.rescale import rescale_init_
from ntksap_export.training.schedule import learning_rate

__all__ = [
    "Average",
    "Checkpoints",
    "EpochRow",
    "MixedLabels",
    "TrainConfig",
    "TrainLog",
    "clip_norm_",
    "evaluate",
    "forget_states",
    "keep_pruned",
    "learning_rate",
    "loss_of",
    "make_optimizer",
    "mix",
    "rescale_init_",
    "resolve_device",
    "resolve_precision",
    "right_of",
    "train",
    "train_config",
]
