"""train() and evaluate(): zeros stay, rows are right, and what diverges is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntksap_export.errors import CheckpointError, TrainingError
from ntksap_export.masks import Mask
from ntksap_export.training import Checkpoints, EpochRow, TrainLog, evaluate, train
from ntksap_export.training.checkpoints import last_saved
from ntksap_export.training.diagnose import first_bad_layer

from ..support.nets import random_mask, tiny_net
from .cases import config, digits, images, net


def test_it_learns_and_pruned_weights_are_exactly_zero() -> None:
    model = net()
    mask = random_mask(model)
    rows: list[EpochRow] = []

    log = train(model, mask, digits(48), config(epochs=3, lr=0.3), on_epoch=rows.append)

    assert all(torch.equal(mask[name], model.get_parameter(name) != 0) for name in mask)
    assert log.final.train_loss < 0.8 * math.log(10)
    assert log.final.train_loss < log.history[0].train_loss
    assert log.final.val_accuracy > 0.3
    assert (1, 2, 3) == tuple(row.epoch for row in log.history)
    assert list(log.history) == rows
    assert ("cpu", "fp32") == (log.device, log.precision)
    assert not any(module.training for module in model.modules())


def test_the_last_row_is_what_the_model_left_behind_does() -> None:
    model = net()

    log = train(model, Mask.dense(model), digits(), config(epochs=1))

    assert (log.final.val_loss, log.final.val_accuracy) == evaluate(model, digits().val)


def test_a_row_has_the_rate_of_its_last_step() -> None:
    model = net()

    log = train(model, Mask.dense(model), digits(), config(epochs=2, lr=0.4, warmup_epochs=1))

    # steps 4 to 7 of 8 follow a cosine that began at step 4
    assert [0.4, 0.2 * (1 + math.cos(math.pi * 3 / 4))] == pytest.approx([row.lr for row in log.history])


def test_training_losses_are_means_over_images() -> None:
    model = net()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.zero_()

    log = train(model, Mask.dense(model), digits(), config(epochs=1, lr=1e-12))

    assert math.log(10) == pytest.approx(log.final.train_loss, abs=1e-6)
    assert log.final.images_per_s > 0
    assert log.final.seconds > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_is_for_training_only(smoothing: float) -> None:
    model = net()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.copy_(torch.eye(10)[0] * 4)
    targets = torch.cat([labels for _, labels in digits().train]), torch.cat([labels for _, labels in digits().val])

    log = train(model, Mask.dense(model), digits(), config(epochs=1, lr=1e-12, label_smoothing=smoothing))

    logits = torch.eye(10)[0] * 4
    trained, judged = (logits.expand(len(labels), 10) for labels in targets)
    expected = functional.cross_entropy(trained, targets[0], label_smoothing=smoothing).item()
    assert expected == pytest.approx(log.final.train_loss, abs=1e-5)
    assert functional.cross_entropy(judged, targets[1]).item() == pytest.approx(log.final.val_loss, abs=1e-5)


def test_evaluate_weighs_batches_by_their_images() -> None:
    model = nn.Linear(3, 3, bias=False).train()
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    labels = torch.tensor([0, 1, 0])
    batches = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]

    loss, accuracy = evaluate(model, batches)  # type: ignore[arg-type]

    losses = [math.log(math.exp(2) + 2) - 2, math.log(math.exp(3) + 2) - 3, math.log(math.e + 2)]
    assert sum(losses) / 3 == pytest.approx(loss)
    assert 2 / 3 == accuracy
    assert not model.training


def test_evaluate_leaves_buffers_and_gradients_alone() -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    evaluate(model, digits().val)

    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_mask_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'fc\.weight' has shape \(4, 8\)"):
        train(net(), Mask.dense(tiny_net(classes=4)), digits(), config())


def test_a_huge_rate_is_named_with_epoch_and_advice(tmp_path: Path) -> None:
    model = net()
    where = Checkpoints(tmp_path / "states")

    with pytest.raises(TrainingError) as caught:
        train(model, Mask.dense(model), digits(), config(lr=1e30, warmup_epochs=0), checkpoints=where)

    message = str(caught.value)
    assert message.startswith("the loss is NaN or infinite in epoch 1, step ")
    assert "first bad layer: " in message
    assert "no state was saved. Lower --lr or use --precision fp32" in message
    assert "\n" not in message
    assert not where.directory.exists()


def test_a_last_step_that_ruins_the_weights_is_not_kept(tmp_path: Path) -> None:
    model = net()
    where = Checkpoints(tmp_path / "states")

    with pytest.raises(TrainingError, match="in epoch 1, step 1; first bad layer: "):  # its own loss was finite
        train(model, Mask.dense(model), digits(2000), config(lr=1e30, warmup_epochs=0), checkpoints=where)
    assert not where.directory.exists()


@pytest.mark.parametrize("layer", ["conv1", "bn2", "fc"])
def test_a_poisoned_weight_is_named_and_the_last_good_state_stays(tmp_path: Path, layer: str) -> None:
    model = net()
    where = Checkpoints(tmp_path / "states")

    @torch.no_grad()
    def poison(row: EpochRow) -> None:
        if row.epoch == 2:
            model.get_parameter(f"{layer}.weight")[1] = float("nan")

    with pytest.raises(TrainingError, match=rf"in epoch 3, step 1; first bad layer: {layer}\.weight; the state after"):
        train(model, Mask.dense(model), digits(), config(epochs=4), checkpoints=where, on_epoch=poison)

    saved = last_saved(where)
    assert saved is not None
    assert "epoch 2" == str(saved)
    kept = torch.load(where.directory / saved.name, weights_only=True)
    assert [1, 2] == [entry["epoch"] for entry in kept["history"]]
    assert all(bool(tensor.isfinite().all()) for tensor in kept["model"].values())


def test_first_bad_layer_is_the_first_in_order_of_execution() -> None:
    model = net()
    with torch.no_grad():
        model.fc.bias[0] = float("inf")
        model.conv2.weight[0, 0, 0, 0] = float("nan")

    assert "conv2.weight" == first_bad_layer(model, images())


def test_first_bad_layer_may_have_good_weights() -> None:
    model = net().eval()
    with torch.no_grad():
        model.conv2.weight.fill_(3e38)

    assert "conv2 (its output)" == first_bad_layer(model, images())


def test_first_bad_layer_of_a_good_model_is_none_and_nothing_is_left_on_it() -> None:
    model = net().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    assert first_bad_layer(model, images()).startswith("the loss itself")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())


def row(epoch: int, accuracy: float) -> EpochRow:
    return EpochRow(epoch, 1.0, 0.5, 2.0, accuracy, 0.1, 3.0, 100.0)


def test_best_is_the_first_of_the_highest_and_final_the_last() -> None:
    log = TrainLog((row(1, 0.2), row(2, 0.7), row(3, 0.7), row(4, 0.6)), "cpu", "fp32")

    assert (2, 4) == (log.best.epoch, log.final.epoch)


def test_log_as_json() -> None:
    log = TrainLog((row(1, 0.2), row(2, 0.1)), "cpu", "bf16")

    stored = log.to_json()

    assert (1, 2, 6.0, "cpu", "bf16") == tuple(
        stored[key] for key in ("schema", "epochs", "seconds", "device", "precision")
    )
    assert (2, 1, [1, 2]) == (
        stored["final"]["epoch"],
        stored["best"]["epoch"],
        [entry["epoch"] for entry in stored["history"]],
    )
    assert 0.2 == stored["best"]["val_accuracy"]
