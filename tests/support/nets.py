"""Small networks that several rooms' tests build."""

from __future__ import annotations

import torch
from torch import nn

from ntksap_export.masks import Mask


class TinyNet(nn.Module):
    """conv, norm, ReLU, conv (stride 2), norm, ReLU, pool, linear; all with biases. Input (N, 3, H, W)."""

    def __init__(self, classes: int = 3, affine: bool = True, track: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6, affine=affine, track_running_stats=track)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2)
        self.bn2 = nn.BatchNorm2d(8, affine=affine, track_running_stats=track)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        logits: torch.Tensor = self.fc(self.dropout(x.mean(dim=(2, 3))))
        return logits


def tiny_net(seed: int = 0, **options: float) -> TinyNet:
    """A `TinyNet` that follows from its seed; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return TinyNet(**options)  # type: ignore[arg-type]


def random_mask(model: nn.Module, density: float = 0.5, seed: int = 0) -> Mask:
    """About `density` of every prunable weight, and in each tensor at least one kept and one pruned."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, kept in Mask.dense(model).items():
        tensors[name] = torch.rand(kept.shape, generator=generator) < density
        tensors[name].view(-1)[0] = True
        tensors[name].view(-1)[-1] = False
    return Mask(tensors)


class BlockNet(nn.Module):
    """A residual block whose channels divide by 4, after a stem whose 3 inputs do not. Input (N, 3, H, W)."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2, bias=False)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn0(self.stem(x)))
        x = torch.relu(self.bn1(self.conv1(x)) + self.shortcut(x))
        logits: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def block_net(seed: int = 0) -> BlockNet:
    """A `BlockNet` that follows from its seed; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return BlockNet()
