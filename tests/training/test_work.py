"""One step: its gradient is that of the whole batch's mean, however it is cut, mixed, scaled or compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from ntksap_export.training.work import Work, begin

from ..support.nets import TinyNet, random_mask, tiny_net
from .cases import config, images

LABELS = torch.arange(355) % 10


def work_of(**changes: Any) -> tuple[Work, TinyNet]:
    """A network whose BatchNorm does not see the batch, so that cutting it changes nothing but the order of sums."""
    model = tiny_net(seed=1, classes=10)
    for module in model.modules():
        module.eval()
    return begin(model, random_mask(model), config(**{"weight_decay": 0.0, "momentum": 0.0, **changes})), model


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.double() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_gradient_is_that_of_the_mean_loss() -> None:
    work, model = work_of(label_smoothing=0.1)
    slow = tiny_net(seed=1, classes=10).double().eval()
    slow.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    functional.cross_entropy(slow(images().double()), LABELS, label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]

    loss, right = work.backward(images(), LABELS, len(LABELS), "key")

    expected, got = gradients(slow), gradients(model)
    assert all(torch.allclose(expected[name], got[name], rtol=1e-3, atol=1e-5) for name in expected)
    logits = slow(images().double()).detach()
    total = functional.cross_entropy(logits, LABELS, label_smoothing=0.1, reduction="sum")
    assert float(total) == pytest.approx(float(loss), rel=1e-5)
    assert float((logits.argmax(1) == LABELS).sum()) == float(right)


@pytest.mark.parametrize("parts", [2, 3, 50, 10_000])
@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.4}, {"cutmix": 1.0}])
def test_micro_batches_have_the_gradient_of_the_batch(parts: int, mixing: dict[str, float]) -> None:
    whole, first = work_of(**mixing)
    cut, second = work_of(accumulate=parts, **mixing)

    sums = whole.backward(images(), LABELS, len(LABELS), "key")
    sums_of_parts = cut.backward(images(), LABELS, len(LABELS), "key")

    assert [float(value) for value in sums] == pytest.approx([float(value) for value in sums_of_parts], rel=1e-5)
    theirs, ours = gradients(first), gradients(second)
    assert all(torch.allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-6) for name in theirs)


def test_a_step_follows_its_rate_and_the_kept_weights_alone() -> None:
    work, model = work_of()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    work.backward(images(), LABELS, len(LABELS), "key")
    raw = {name: gradient.float() for name, gradient in gradients(model).items()}

    work.apply(0.25)

    mask = random_mask(model)
    for name, parameter in model.named_parameters():
        kept = mask[name] if name in mask else torch.ones_like(parameter, dtype=torch.bool)
        assert torch.allclose(before[name] - 0.25 * raw[name] * kept, parameter, atol=1e-7)
        assert not bool(parameter[~kept].any())


def test_fp16_scales_the_loss_and_skips_a_step_that_overflows() -> None:
    work, model = work_of(precision="fp16")
    before = model.fc.weight.detach().clone()
    scale = work.scaler.get_scale()
    work.backward(images(), LABELS, len(LABELS), "key")
    assert model.fc.weight.grad is not None
    model.fc.weight.grad[0, 0] = float("inf")

    work.apply(0.1)

    assert torch.equal(before, model.fc.weight)
    assert scale / 2 == work.scaler.get_scale()


def test_a_norm_is_clipped_after_it_is_unscaled() -> None:
    clipped, model = work_of(precision="fp16", clip_norm=1e-3)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])

    clipped.backward(images(), LABELS, len(LABELS), "key")
    clipped.apply(1.0)

    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert 1e-3 == pytest.approx(float((after - before).norm()), rel=1e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile imports what torch deprecates
def test_a_compiled_step_is_the_plain_one_and_an_odd_batch_runs_as_it_is() -> None:
    plain, first = work_of()
    compiled, second = work_of(compile="default")

    for count in (300, 300, 55):
        for work in (plain, compiled):
            work.backward(images()[:count], LABELS[:count], count, "key")
            work.apply(0.1)

    theirs, ours = first.state_dict(), second.state_dict()
    assert all(torch.allclose(theirs[name].float(), ours[name].float(), atol=1e-5) for name in theirs)
