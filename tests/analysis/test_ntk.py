"""The tangent kernel against autograd in float64, one output of one image at a time; nothing depends on the memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ntksap_export.analysis import Estimate, Form, hutchinson_trace, ntk, ntk_along, ntk_memory
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.masks import Mask, prunable_names
from tests.conftest import Recorder
from tests.pruning.channel_nets import Residual
from tests.support.nets import random_mask, tiny_net

FORMS: tuple[Form, ...] = ("sum", "classes", "full")
N = 5


class Grouped(nn.Module):
    """Grouped, depthwise and dilated convolutions; an in-place ReLU behind a convolution; a convolution used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, groups=3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6, dilation=2, bias=False)
        self.point = nn.Conv2d(6, 6, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.relu(self.first(x)))
        x = self.point(self.relu(self.point(x)))
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


class Branching(nn.Module):
    """Control flow that depends on the image: vmap cannot take it. The second layer is unused by some images."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x.flatten(1)).tanh()
        return self.b(x) if bool(x.sum() > 0) else x


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.Tanh(), nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 3))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "residual": (Residual, (3, 6, 6)),
    "mlp": (mlp, (3, 4, 4)),
    "grouped": (Grouped, (3, 6, 6)),
    "branching": (Branching, (3, 2, 2)),
}


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The network in float32, its norms' statistics none of the defaults, and images."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        make, shape = NETS[name]
        model = make()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 2)
        return model, torch.randn(N, *shape)


def jacobian(model: nn.Module, images: torch.Tensor, mask: Mask | None, names: tuple[str, ...]) -> torch.Tensor:
    """(N, classes, weights), by one backward pass for each number of the logits; `model` becomes float64."""
    model.double().eval()
    if mask is not None:
        mask.apply_(model)
    parameters = dict(model.named_parameters())
    rows = []
    for image in images.double():
        outputs = []
        for logit in model(image[None])[0]:
            gradients = torch.autograd.grad(
                logit, [parameters[name] for name in names], retain_graph=True, materialize_grads=True
            )
            kept = [g * mask[name] if mask else g for name, g in zip(names, gradients, strict=True)]
            outputs.append(torch.cat([g.flatten() for g in kept]))
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


def brute_force(j: torch.Tensor, form: Form) -> torch.Tensor:
    if form == "sum":
        total = j.sum(1)
        return total @ total.T
    if form == "classes":
        return torch.stack([j[:, c] @ j[:, c].T for c in range(j.shape[1])])
    flat = j.reshape(-1, j.shape[2])
    return flat @ flat.T


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETS)
def test_the_kernel_is_that_of_brute_force(name: str, form: Form, masked: bool) -> None:
    model, images = built(name)
    mask = random_mask(model) if masked else None

    found = ntk(model, images, form=form, mask=mask)

    expected = brute_force(jacobian(model, images, mask, prunable_names(model)), form)
    assert torch.float64 == found.dtype
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("form", FORMS)
def test_biases_and_norms_count_where_asked(form: Form) -> None:
    model, images = built("residual")

    found = ntk(model, images, form=form, parameters="all")

    names = tuple(name for name, _ in model.named_parameters())
    expected = brute_force(jacobian(model, images, None, names), form)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def little(model: nn.Module, images: torch.Tensor, form: Form, mask: Mask | None) -> Estimate:
    """A way in two to eight passes, found by halves."""
    low, high = 0, 1 << 30
    shape = tuple(images.shape[1:])
    while True:
        middle = (low + high) // 2
        try:
            found = ntk_memory(model, shape, len(images), form, mask=mask, memory_bytes=middle)
        except ConfigError:
            low = middle
            continue
        if 1 < found.passes <= 8:
            return found
        low, high = (low, middle) if found.passes == 1 else (middle, high)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_kernel_does_not_depend_on_the_memory(form: Form, masked: bool) -> None:
    model, images = built("grouped")
    mask = random_mask(model) if masked else None
    small = little(model, images, form, mask)

    found = ntk(model, images, form=form, mask=mask, memory_bytes=small.bytes)

    assert small.images == 1
    torch.testing.assert_close(found, ntk(model, images, form=form, mask=mask), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_float32_gradients_are_near(form: Form) -> None:
    model, images = built("residual")

    found = ntk(model, images, form=form, dtype=torch.float32)

    expected = ntk(model, images, form=form)
    assert torch.float64 == found.dtype
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_forms_agree() -> None:
    model, images = built("residual")
    full = ntk(model, images, form="full").reshape(N, 2, N, 2)

    torch.testing.assert_close(full.sum((1, 3)), ntk(model, images), rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(torch.einsum("icjc->cij", full), ntk(model, images, form="classes"))


def test_the_model_is_left_as_it_was() -> None:
    model, images = built("residual")
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    ntk(model, images, mask=random_mask(model))
    hutchinson_trace(model, images, probes=2, seed=0)

    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert dict.fromkeys(before, True) == {n: torch.equal(before[n], t) for n, t in model.state_dict().items()}


def test_along_training_it_is_the_kernel_of_each_model() -> None:
    models = [tiny_net(seed) for seed in (0, 1)]
    images = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    mask = random_mask(models[0])

    found = ntk_along(iter(models), images, mask=mask, form="classes")

    expected = [ntk(model, images, form="classes", mask=mask) for model in models]
    assert [True, True] == [torch.equal(a, b) for a, b in zip(found, expected, strict=True)]


def test_memory_and_progress_are_shown() -> None:
    model, images = built("mlp")
    shown = Recorder()

    ntk(model, images, progress=shown)

    estimate = ntk_memory(model, (3, 4, 4), N)
    assert [
        f"NTK of 5 images by 571 weights (form sum): {-(-estimate.bytes * 100 // 1024) / 100:.4g} KiB at most, 1 pass"
    ] == shown.lines


def test_more_images_and_outputs_need_more_memory() -> None:
    model, _ = built("mlp")

    def needed(images: int, form: Form) -> int:
        return ntk_memory(model, (3, 4, 4), images, form).bytes

    assert needed(20, "sum") < needed(40, "sum") < needed(40, "classes") < needed(40, "full")


@pytest.mark.parametrize(
    ("form", "advice"),
    [
        ("sum", "Raise --memory, lower --images"),
        ("full", "Raise --memory, lower --images, or take --form sum"),
    ],
)
def test_memory_that_cannot_suffice_is_refused_with_the_flags(form: Form, advice: str) -> None:
    model, images = built("mlp")

    with pytest.raises(ConfigError) as error:
        ntk(model, images, form=form, memory_bytes=4096)

    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"the NTK of 5 images (form {form}) needs at least ")
    assert str(error.value).endswith(f" KiB; --memory allows 4 KiB. {advice}")


class Odd(nn.Module):
    """A linear layer, and then something that cannot be differentiated."""

    def __init__(self, after: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.layer, self.after = nn.Linear(48, 3), after

    def forward(self, x: torch.Tensor) -> object:
        return self.after(self.layer(x.flatten(1)))


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (torch.detach, "do not depend on the weights"),
        (lambda x: x.argmax(1), "must give logits"),
        (lambda x: {"logits": x}, "must give logits .* got dict"),
        (lambda x: x / 0, "NaN or infinite"),
    ],
)
def test_a_network_that_cannot_be_differentiated(after: Callable[[torch.Tensor], object], message: str) -> None:
    images = torch.ones(N, 3, 4, 4)

    with pytest.raises(ConfigError, match=message):
        ntk(Odd(after), images)


def test_bad_images_and_masks() -> None:
    model, images = built("mlp")

    with pytest.raises(ConfigError, match="must be floats"):
        ntk(model, images.to(torch.uint8))
    with pytest.raises(ConfigError, match=r"cannot take torch.float64 images of shape \(3, 5, 5\)"):
        ntk(model, torch.zeros(N, 3, 5, 5))
    with pytest.raises(CheckpointError, match="made for another model"):
        ntk(model, images, mask=Mask({"other": torch.ones(1, dtype=torch.bool)}))
    with pytest.raises(ConfigError, match="no weight of the network counts"):
        ntk(model, images, mask=Mask({name: torch.zeros_like(kept) for name, kept in Mask.dense(model).items()}))


@pytest.mark.parametrize("masked", [False, True])
def test_the_trace_is_within_its_errors(masked: bool) -> None:
    model, images = built("residual")
    mask = random_mask(model) if masked else None

    mean, error = hutchinson_trace(model, images, probes=64, seed=3, mask=mask)

    kernel = brute_force(jacobian(model, images, mask, prunable_names(model)), "full")
    variance = 2 * float(kernel.square().sum() - kernel.diagonal().square().sum())
    assert abs(mean - float(kernel.trace())) < 3 * error
    assert pytest.approx(math.sqrt(variance / 64), rel=0.35) == error


def test_a_probe_is_the_squared_norm_of_the_pulled_signs() -> None:
    model, images = built("mlp")

    mean, _ = hutchinson_trace(model, images, probes=2, seed=5)

    generator = torch.Generator().manual_seed(5)
    signs = [(torch.randint(2, (N, 3), generator=generator) * 2 - 1).double() for _ in range(2)]
    j = jacobian(model, images, None, prunable_names(model))
    expected = sum(float(torch.einsum("nc,ncp->p", v, j).square().sum()) for v in signs) / 2
    assert pytest.approx(expected, rel=1e-12) == mean


def test_a_trace_of_few_images_at_a_time_is_within_its_errors_too() -> None:
    model, images = built("mlp")
    needed = 0
    while True:
        try:
            found = hutchinson_trace(model, images, probes=30, seed=5, memory_bytes=needed)
            break
        except ConfigError as error:
            assert "--memory" in str(error)
            needed += 5000

    trace = float(ntk(model, images, form="full").trace())
    assert abs(found.mean - trace) < 3 * found.standard_error
    with pytest.raises(ConfigError, match="at least 2 probes"):
        hutchinson_trace(model, images, probes=1, seed=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("form", FORMS)
def test_the_same_on_cuda(form: Form) -> None:
    model, images = built("residual")
    mask = random_mask(model)
    expected = ntk(model, images, form=form, mask=mask)

    found = ntk(model.cuda(), images, form=form, mask=mask)

    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
