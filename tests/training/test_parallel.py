"""Two processes train what one trains, agree on what to do, and none goes on alone."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from ntksap_export.data import Loaders, loaders
from ntksap_export.errors import ConfigError, DataError, NtksapError, Preempted, ScoreError, TrainingError
from ntksap_export.masks import Mask
from ntksap_export.processes import from_main, rank, world_size
from ntksap_export.training import Checkpoints, TrainConfig, evaluate, train
from ntksap_export.training.parallel import agree, lost_processes_named, summed
from ntksap_export.training.sync_batch_norm import synced_batch_norm

from ..support.nets import TinyNet, random_mask, tiny_net
from ..support.ranks import on_two_ranks
from .cases import config

# Both add the same numbers in another order; a few steps make of it this much, relative to weights of about 0.1.
TOLERANCE = 5e-5
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "averaged": {"ema": 0.9, "decay_norms": False},
    "adamw": {"optimizer": "adamw", "lr": 0.003, "clip_norm": 1.0},
    "no weight decay": {"weight_decay": 0.0, "label_smoothing": 0.1},
}

PLACE = "NTKSAP_TEST_PLACE"
Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What two processes answer to everything: starting them takes longer than the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE, str(tmp_path_factory.mktemp("states")))
        return on_two_ranks(everything, tmp_path_factory.mktemp("ranks"))


def everything() -> dict[str, Any]:
    works = (hooked, odd_kinds, unsynced_weights, normalized, judged, decisions, stopped, mismatched, diverging)
    answers = {kind: trained(kind) for kind in SETTINGS}
    return answers | {work.__name__: work() for work in works}


def net() -> TinyNet:
    return tiny_net(seed=1, classes=10)


def digits() -> Loaders:
    """Batches of 400 and an odd last one of 242 images; of two processes this one's half."""
    return loaders("digits", batch_size=400, image_size=8, part=(rank(), world_size()))


def trained(kind: str) -> dict[str, Any]:
    torch.manual_seed(rank())
    model = net()
    mask = random_mask(model)
    log = train(model, mask, digits(), config(**{"epochs": 2, **SETTINGS[kind]}))
    weights = torch.cat([value.flatten().double() for value in model.state_dict().values()])
    zeros = sum(int((model.get_parameter(name)[~kept] != 0).sum()) for name, kept in mask.items())
    rows = [[row.train_loss, row.train_accuracy, row.val_loss, row.val_accuracy] for row in log.history]
    return {"weights": weights.tolist(), "rows": rows, "revived": zeros}


def hooked() -> dict[str, Any]:
    """What a hook on gradients sees, and what comes of its changes."""
    model, seen = net(), []

    def on_gradient(step: int) -> None:
        gradient = model.fc.weight.grad
        assert gradient is not None
        seen.append([step, float(gradient.double().norm())])
        gradient.add_(model.fc.weight.detach(), alpha=0.1)

    train(model, Mask.dense(model), digits(), config(epochs=2), on_gradient=on_gradient, start_epoch=1)
    return {"seen": seen, "weights": model.fc.weight.flatten().tolist()}


def test_a_hook_sees_averaged_gradients_in_every_process(together: Answers) -> None:
    alone = hooked()
    first, second = (answers["hooked"] for answers in together)

    assert first == second
    assert [step for step, _ in alone["seen"]] == [step for step, _ in first["seen"]] == [4, 5, 6, 7]
    assert alone["seen"][0][1] == pytest.approx(first["seen"][0][1], rel=1e-3)
    assert alone["weights"] == pytest.approx(first["weights"], abs=TOLERANCE)


@pytest.mark.parametrize("kind", SETTINGS)
def test_two_processes_train_what_one_trains(kind: str, together: Answers) -> None:
    alone = trained(kind)
    first, second = (answers[kind] for answers in together)

    assert first == second
    # AdamW makes full steps of the rounding of gradients that are zero: those of biases before a BatchNorm.
    for ours, theirs in zip(alone["rows"], first["rows"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3 if kind == "adamw" else 1e-4)
    if kind != "adamw":
        assert alone["weights"] == pytest.approx(first["weights"], abs=TOLERANCE)
    assert [0, 0] == [alone["revived"], first["revived"]]


def unsynced_weights() -> dict[str, Any]:
    model = net()
    train(model, Mask.dense(model), digits(), config(epochs=1, sync_bn=False))
    return {"weights": model.conv1.weight.flatten().tolist(), "mean": model.bn1.running_mean.tolist()}  # type: ignore[union-attr]


class Activated(nn.BatchNorm2d):
    """Does more than normalize, as some libraries' do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(super().forward(x))


def odd_kinds() -> dict[str, Any]:
    """Micro-batches of an uneven last batch; a norm without statistics of its own; one that is not known."""
    few = loaders("digits", batch_size=27, image_size=8, part=(rank(), world_size()))  # the last has 11: 6 and 5
    cut = train(net(), Mask.dense(net()), few, config(epochs=1, accumulate=4)).final.train_loss
    bare = tiny_net(seed=1, classes=10, track=False)
    accuracy = train(bare, Mask.dense(bare), digits(), config(epochs=1)).final.val_accuracy
    strange = net()
    strange.bn1 = Activated(6)
    try:
        train(strange, Mask.dense(strange), digits(), config(epochs=1))
        refused = ""
    except ConfigError as error:
        refused = str(error)
    return {"cut": cut, "accuracy": accuracy, "refused": refused}


def test_odd_batches_and_odd_norms(together: Answers) -> None:
    first, second = (answers["odd_kinds"] for answers in together)
    alone = odd_kinds()

    assert first == second
    assert "BatchNorm over several processes is not known of Activated; pass --no-sync-bn" == first["refused"]
    assert "" == alone["refused"]  # alone every kind does what it does
    assert math.isfinite(first["cut"])
    assert 0.0 < first["accuracy"] < 1.0


def test_without_synced_statistics_the_weights_are_still_the_same_everywhere(together: Answers) -> None:
    first, second = (answers["unsynced_weights"] for answers in together)
    alone = unsynced_weights()

    assert first == second  # the statistics too: rank 0's
    assert alone["weights"] != pytest.approx(first["weights"], abs=TOLERANCE)


def normalized() -> dict[str, Any]:
    """Output, gradients and statistics of a BatchNorm that sees its half of a batch, in the order of the whole."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 4, 4, generator=generator) * 2 + 5
    wanted = torch.randn(6, 3, 4, 4, generator=generator)
    layer = nn.BatchNorm2d(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    chosen = slice(None) if world_size() == 1 else slice(0, 4) if rank() == 0 else slice(4, 6)  # uneven halves
    part = x[chosen].clone().requires_grad_()
    with synced_batch_norm(layer):
        out = layer(part)
        (out * wanted[chosen]).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        parameter.grad.copy_(summed(parameter.grad))
    assert part.grad is not None
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    return {
        "out": out.flatten().tolist(),
        "x": part.grad.flatten().tolist(),
        "weight": layer.weight.grad.tolist(),
        "bias": layer.bias.grad.tolist(),
        "mean": layer.running_mean.tolist(),  # type: ignore[union-attr]
        "var": layer.running_var.tolist(),  # type: ignore[union-attr]
        "batches": int(layer.num_batches_tracked),  # type: ignore[arg-type]
        "own forward": "forward" in vars(layer),
    }


def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(together: Answers) -> None:
    whole = normalized()

    first, second = (answers["normalized"] for answers in together)

    for name in ("out", "x"):
        assert whole[name] == pytest.approx(first[name] + second[name], abs=2e-5)
    for name in ("weight", "bias", "mean", "var"):
        assert whole[name] == pytest.approx(first[name], abs=2e-5)
        assert first[name] == second[name]
    assert [1, 1, False, False] == [first["batches"], second["batches"], first["own forward"], whole["own forward"]]


def judged() -> dict[str, Any]:
    loss, accuracy = evaluate(net(), digits().val)
    return {"loss": loss, "accuracy": accuracy}


def test_validation_is_shared_and_its_means_are_over_all(together: Answers) -> None:
    alone = judged()

    answers = [answer["judged"] for answer in together]

    assert answers[0] == answers[1]
    assert (alone["loss"], alone["accuracy"]) == pytest.approx((answers[0]["loss"], answers[0]["accuracy"]))


def decisions() -> dict[str, Any]:
    flags = agree([rank() == 0, rank() == 1, False], torch.device("cpu"))
    found = from_main(lambda: f"from {rank()}")
    try:
        from_main(_refuse)
        error = ""
    except DataError as caught:
        error = str(caught)
    return {"flags": flags, "found": found, "error": error}


def _refuse() -> str:
    raise DataError(f"rank {rank()} refuses")


def test_what_one_decides_holds_for_all(together: Answers) -> None:
    expected = {"flags": [True, True, False], "found": "from 0", "error": "rank 0 refuses"}

    assert [expected, expected] == [answers["decisions"] for answers in together]


def stopped() -> dict[str, Any]:
    """Only rank 1 is asked to stop; both must, at the same step, and go on together."""
    where = Checkpoints(Path(os.environ[PLACE]))
    model = net()
    mask = random_mask(model)
    steps = iter(range(100))
    message = ""
    try:
        train(model, mask, digits(), config(), checkpoints=where, stop=lambda: rank() == 1 and next(steps) == 5)
    except Preempted as error:
        message = str(error)
    distributed.barrier()
    again = net()
    train(again, mask, digits(), config(), checkpoints=where)
    weights = torch.cat([value.flatten().double() for value in again.state_dict().values()])
    return {"message": message, "weights": weights.tolist()}


def test_all_stop_at_one_step_and_go_on_together(together: Answers) -> None:
    first, second = (answers["stopped"] for answers in together)

    assert first == second
    assert "the state after epoch 1 and 1 steps is saved" in first["message"]
    assert trained("sgd")["weights"] == pytest.approx(first["weights"], abs=TOLERANCE)


def mismatched() -> dict[str, Any]:
    model = net()
    try:
        train(model, random_mask(model, seed=rank()), digits(), config())
    except ScoreError as error:
        return {"error": str(error)}
    return {}


def test_processes_with_different_masks_are_refused(together: Answers) -> None:
    answers = [answer["mismatched"] for answer in together]

    assert ["rank 1 of 2 chose another mask than rank 0"] * 2 == [answer["error"].split(";")[0] for answer in answers]


def diverging() -> dict[str, Any]:
    model = net()
    try:
        train(model, Mask.dense(model), digits(), TrainConfig(epochs=1, lr=1e30, warmup_epochs=0, precision="fp32"))
    except TrainingError as error:
        return {"error": str(error)}
    return {}


def test_a_nan_ends_all_with_the_same_words(together: Answers) -> None:
    first, second = (answers["diverging"] for answers in together)

    assert first == second
    assert first["error"].startswith("the loss is NaN or infinite in epoch 1, step ")


def orphaned() -> dict[str, Any]:
    """Rank 1 dies in the middle; rank 0 must say so, in one line."""
    if rank() == 1:
        threading.Thread(target=_die, daemon=True).start()
    model = net()
    try:
        train(model, Mask.dense(model), digits(), config(epochs=10_000))
    except NtksapError as error:
        (Path(os.environ[PLACE])).write_text(str(error))
    return {}


def _die() -> None:
    time.sleep(0.5)
    os._exit(9)


def test_a_dying_process_ends_the_others_with_a_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "said"
    monkeypatch.setenv(PLACE, str(said))

    with pytest.raises(torch.multiprocessing.ProcessExitedException):
        on_two_ranks(orphaned, tmp_path, join_all=True)
    assert said.read_text().startswith("another process of this job ended or cannot be reached")


def test_alone_an_error_of_torch_is_not_renamed() -> None:
    with pytest.raises(RuntimeError, match="connection of ideas"), lost_processes_named():
        raise RuntimeError("connection of ideas")
