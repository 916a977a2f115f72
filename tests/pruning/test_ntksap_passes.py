"""NTK-SAP's own forward and backward against ordinary autograd in double precision, on networks of many shapes.

The slow writing knows nothing of convolutions: it multiplies the mask into the weights, lets hooks set each BatchNorm's
statistics to what the unperturbed network measures, and differentiates the difference of the logits by the mask.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export import hardware
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning import NtkSap, ScoringInputs
from ntksap_export.pruning.scorers.ntksap_passes import TwoPasses, mean_and_variance

from ..support.nets import BlockNet, TinyNet, random_mask, tiny_net
from .test_ntksap_formula import flat, rank_correlation

CPU = torch.device("cpu")
INPUTS = ScoringInputs((3, 10, 10), batch_size=8, seed=3)


class Odd(nn.Module):
    """What a merged convolution and norm must not get wrong: see the comments."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding="same")
        self.bn0 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.bn1 = nn.BatchNorm2d(8, affine=False)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.bn3 = nn.BatchNorm2d(8, track_running_stats=False)
        self.conv4 = nn.Conv2d(8, 8, 3, stride=2, padding=1, padding_mode="circular")
        self.bn4 = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8 * 5 * 5, 12)
        self.bn5 = nn.BatchNorm1d(12)
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.bn0(self.stem(x)))
        y = self.conv1(x)
        x = self.bn1(y) + y  # the convolution's own output is read again
        x.relu_()  # nobody looks at what it returns
        x = self.bn2(self.conv2(x).add_(0.5))  # changed in place before its norm
        x += 0.1 * x
        x = torch.relu(self.bn3(x) + self.bn2(x))  # norms without a convolution, one module called twice
        y = self.conv4(x)
        x = functional.avg_pool2d(x, 2)
        x = functional.relu(self.bn4(y) + x, inplace=True)
        x = self.bn5(self.fc1(x.view(x.shape[0], -1)))
        logits: torch.Tensor = self.fc2(functional.relu(x))
        return logits


class Tied(nn.Module):
    """One weight in two layers, one layer called twice, a leaf added to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.conv3.weight = self.conv2.weight
        self.bn = nn.BatchNorm2d(6)
        self.place = nn.Parameter(torch.linspace(-1, 1, 6).view(1, 6, 1, 1).repeat(1, 1, 10, 10))
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x) + self.place
        x = functional.relu(self.bn(self.conv2(x)))
        x = functional.relu(self.bn(self.conv3(x)) + x)
        x = functional.max_pool2d(self.conv2(x), 2)
        logits: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def net_of(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(4)
        return make()


def slow_scores(model: nn.Module, mask: Mask, inputs: ScoringInputs, epsilon: float) -> dict[str, torch.Tensor]:
    """Equation 10 by the mask, one draw, one batch."""
    generator = inputs.generator(CPU, 0, 0, 0)
    images = torch.randn(inputs.batch_size, *inputs.shape, generator=generator).double()
    net = copy.deepcopy(model).double().eval()
    th, moved = {}, {}
    for name in mask:
        shape = mask[name].shape
        std = math.sqrt(2 / math.prod(shape[1:]))
        th[name] = torch.empty(shape).normal_(0.0, std, generator=generator).double()
    for name in mask:
        moved[name] = th[name] + torch.empty(mask[name].shape).normal_(0.0, epsilon, generator=generator).double()
    measured: list[tuple[torch.Tensor, torch.Tensor]] = []
    measuring = True

    def set_statistics(norm: nn.Module, arguments: tuple[torch.Tensor]) -> None:
        (x,) = arguments
        if measuring:
            var, mean = torch.var_mean(x.detach(), dim=[axis for axis in range(x.dim()) if axis != 1])
            measured.append((mean, var))
        norm.running_mean, norm.running_var = measured[-1] if measuring else measured.pop(0)

    for norm in net.modules():
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            norm.register_forward_pre_hook(set_statistics)
    m = {name: kept.double().requires_grad_() for name, kept in mask.items()}
    here = functional_call(net, {name: th[name] * m[name] for name in m}, (images,))
    measuring = False
    there = functional_call(net, {name: moved[name] * m[name] for name in m}, (images,))
    gradients = torch.autograd.grad((here - there).square().sum(), list(m.values()))
    return {name: (by_m * mask[name]).abs() for name, by_m in zip(m, gradients, strict=True)}


@pytest.mark.parametrize("make", [TinyNet, BlockNet, Odd, Tied])
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_scores_are_those_of_ordinary_autograd(make: Callable[[], nn.Module], density: float) -> None:
    net = net_of(make)
    mask = Mask.dense(net) if density == 1.0 else random_mask(net, density)
    expected = slow_scores(net, mask, INPUTS, 0.01)

    exact = NtkSap(precision="fp32").score(net, mask, INPUTS, 0)
    rounded = NtkSap(precision="bf16").score(net, mask, INPUTS, 0)

    for name in mask:
        largest = expected[name].max().item()
        torch.testing.assert_close(exact[name].double(), expected[name], rtol=0.0, atol=1e-3 * largest)
        assert torch.count_nonzero(rounded[name][~mask[name]]) == 0
    assert rank_correlation(flat(expected, mask), flat(exact, mask)) > 0.9999
    assert rank_correlation(flat(expected, mask), flat(rounded, mask)) > 0.99


def test_values_are_never_rounded() -> None:
    # The classifier's scores follow from the two networks' values alone; bf16 logits would keep no digit of this step.
    net = tiny_net(seed=5)
    mask = Mask.dense(net)
    expected = slow_scores(net, mask, INPUTS, 1e-4)["fc.weight"]

    rounded = NtkSap(epsilon=1e-4, precision="bf16").score(net, mask, INPUTS, 0)["fc.weight"]

    torch.testing.assert_close(rounded.double(), expected, rtol=0.0, atol=1e-2 * expected.max().item())


@pytest.mark.parametrize(
    ("epsilon", "flags", "expected"),
    [(0.01, {"avx512_bf16"}, "bf16"), (0.01, {"avx2"}, "fp32"), (0.005, {"avx512_bf16"}, "fp32")],
)
def test_auto_takes_bf16_where_it_is_fast_and_the_step_is_large(
    monkeypatch: pytest.MonkeyPatch, epsilon: float, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(hardware, "cpu_flags", lambda: flags)
    net = tiny_net()
    mask = Mask.dense(net)
    asked = {name: NtkSap(epsilon, precision=name).score(net, mask, INPUTS, 0) for name in ("fp32", "bf16")}

    auto = NtkSap(epsilon).score(net, mask, INPUTS, 0)

    assert not torch.equal(flat(asked["fp32"], mask), flat(asked["bf16"], mask))
    assert torch.equal(flat(asked[expected], mask), flat(auto, mask))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision must be one of auto, fp32, bf16; got 'fp16'"):
        NtkSap(precision="fp16")


def test_scoring_leaves_the_model_as_it_was() -> None:
    net = net_of(Odd).train()
    net.bn4.eval()
    state = {name: (tensor, tensor.clone()) for name, tensor in net.state_dict(keep_vars=True).items()}
    modes = [module.training for module in net.modules()]
    random = torch.get_rng_state()

    NtkSap().score(net, Mask.dense(net), INPUTS, 0)

    after = net.state_dict(keep_vars=True)
    assert all(after[name] is tensor and torch.equal(tensor, value) for name, (tensor, value) in state.items())
    assert modes == [module.training for module in net.modules()]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 7, 5), (2, 4, 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_statistics_are_mean_and_unbiased_variance(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 5
    if len(shape) == 4:
        x = x.contiguous(memory_format=layout)
    columns = x.double().transpose(0, 1).flatten(1)

    mean, var = mean_and_variance(x)

    expected = (columns - columns.mean(1, keepdim=True)).square().sum(1) / (columns.shape[1] - 1)
    torch.testing.assert_close(mean.double(), columns.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), expected, rtol=1e-5, atol=1e-6)


def test_gradients_travel_in_the_dtype_asked_for() -> None:
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()
    x = torch.randn(2, 3, 6, 6, requires_grad=True)

    with TwoPasses(torch.bfloat16):
        y = functional.relu(norm(conv(x)))
        z = y + y.sin()

    assert torch.float32 == y.dtype == z.dtype
    seen = []
    y.register_hook(lambda gradient: seen.append(gradient.dtype))
    (by_x,) = torch.autograd.grad(z.sum(), x)
    assert [torch.bfloat16] == seen
    assert torch.float32 == by_x.dtype
