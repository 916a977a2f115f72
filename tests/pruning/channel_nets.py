"""Small networks, one for each way in which channels hang together. Input (N, 3, 8, 8), two logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

SHAPE = (3, 8, 8)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)  # type: ignore[arg-type]


class Residual(nn.Module):
    """A block with an identity shortcut, and one with a convolution in the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = conv(3, 8), nn.BatchNorm2d(8)
        self.a1, self.a_bn, self.a2 = conv(8, 4), nn.BatchNorm2d(4), conv(4, 8)
        self.b1, self.b2 = conv(8, 6), conv(6, 10)
        self.short, self.short_bn = conv(8, 10, 1), nn.BatchNorm2d(10)
        self.fc = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem_bn(self.stem(x)).relu()
        x = (x + self.a2(self.a_bn(self.a1(x)).relu())).relu()
        x = (self.short_bn(self.short(x)) + self.b2(self.b1(x).relu())).relu()
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


class Concat(nn.Module):
    """Two layers side by side, read by one, added to by another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 4), conv(3, 6)
        self.bn, self.both = nn.BatchNorm2d(10), conv(10, 10, 1)
        self.last, self.fc = conv(10, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(torch.cat([self.a(x).relu(), self.b(x)], 1))
        x = self.last(x + self.both(x)).relu()
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


class Flat(nn.Module):
    """Convolutions, flatten, two linear layers: each channel is 16 columns."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(3, 6), nn.BatchNorm2d(6), nn.PReLU(6), nn.MaxPool2d(2), conv(6, 5), nn.PReLU()
        )
        self.hidden, self.fc = nn.Linear(5 * 16, 7), nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.hidden(self.features(x).flatten(1)).relu())
        return logits


class Depthwise(nn.Module):
    """Expand, depthwise, squeeze-and-excite, project: an inverted residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand, self.bn1 = conv(3, 4), conv(4, 12, 1), nn.BatchNorm2d(12)
        self.depthwise, self.bn2 = conv(12, 12, groups=12), nn.BatchNorm2d(12)
        self.squeeze, self.excite = conv(12, 3, 1), conv(3, 12, 1)
        self.project, self.fc = conv(12, 4, 1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.bn2(self.depthwise(self.bn1(self.expand(x)).relu())).relu()
        y = y * torch.sigmoid(self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()))
        logits: torch.Tensor = self.fc((x + self.project(y)).mean((2, 3)))
        return logits


class Grouped(nn.Module):
    """A convolution of four groups between two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = conv(3, 8), nn.BatchNorm2d(8)
        self.grouped, self.last, self.fc = conv(8, 12, groups=4), conv(12, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.grouped(self.bn(self.stem(x)).relu()).relu())
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "concat": Concat,
    "flat": Flat,
    "depthwise": Depthwise,
    "grouped": Grouped,
}


class Wrapped(nn.Module):
    """stem (6 channels), whatever `middle` is, last, mean, fc."""

    def __init__(self, middle: Callable[[torch.Tensor], torch.Tensor], width: int = 6) -> None:
        super().__init__()
        self.stem, self.middle = conv(3, 6), middle
        self.last, self.fc = conv(width, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.last(self.middle(self.stem(x))).mean((2, 3)))
        return logits


def build(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The net in float64, norms with statistics and scales of their own; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = make().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return net.eval()


def images(count: int = 3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
