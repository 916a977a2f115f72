"""NTK-SAP's round beside a plain writing of the paper, seconds of every method, and selection over 25 million scores.

    python benchmarks/pruning.py [--quick] [--device cpu|cuda]

1. One round of the scorer against `Plain`, interleaved, on the same draws; whether both come to the same masks, beside
   what other draws alone change; peak memory of each in a process of its own.
2. Seconds of every method on ResNet-20 at 32x32; one round of some on ResNet-50 at 224x224.
3. From scores to a mask, ResNet-50.

Writes results/pruning.{json,txt} (pruning_cuda on a GPU); --quick prints only. About six minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import interleave, ratios, save
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export import models
from ntksap_export.masks import Mask
from ntksap_export.models.initialization import weight_std
from ntksap_export.pruning import SCORERS, Budget, NtkSap, Scorer, ScoringInputs, keep_best, make_scorer, prune

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    model: str
    classes: int
    size: int
    batch: int
    draws: int
    runs: int
    rounds: int

    def build(self, device: str) -> nn.Module:
        return models.build(self.model, self.classes).to(device)

    def inputs(self, seed: int = 0) -> ScoringInputs:
        return ScoringInputs((3, self.size, self.size), batch_size=self.batch, seed=seed)

    @property
    def label(self) -> str:
        return f"{self.model} {self.size} px, batch {self.batch} x {self.draws}"


RESNET20 = Case("resnet20", 10, 32, 100, 5, runs=5, rounds=4)
RESNET50 = Case("resnet50", 1000, 224, 16, 1, runs=4, rounds=2)
MEASURED_ROUNDS = 5
SMALL = Case("resnet20", 10, 32, 50, 1, runs=3, rounds=2)


@dataclass(frozen=True)
class Plain:
    """The paper's procedure as its authors' code goes about it: float32, contiguous, the mask in the graph.

    Per draw: new weights; a pass in train mode for BatchNorm's statistics; the unperturbed network; th + D in a second
    model with the same statistics; one backward through both into the mask. Draws are those of `NtkSap`.
    """

    draws: int = 1
    epsilon: float = 0.01
    default_rounds: int = 20
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:
        net, other = self._copy(model), self._copy(model)
        weights, moved = dict(net.named_parameters()), dict(other.named_parameters())
        device = next(net.parameters()).device
        m = {name: kept.float().requires_grad_() for name, kept in mask.items()}
        sums = {name: torch.zeros_like(kept) for name, kept in m.items()}
        for draw in range(self.draws):
            for batch in range(inputs.batches):
                generator = inputs.generator(device, round_index, draw, batch)
                images = torch.randn(inputs.batch_size, *inputs.shape, generator=generator, device=device)
                for name in m:
                    weights[name].normal_(0.0, weight_std(weights[name]), generator=generator)
                for name in m:
                    step = torch.empty_like(moved[name]).normal_(0.0, self.epsilon, generator=generator)
                    moved[name].copy_(weights[name] + step)
                net.train()
                with torch.no_grad():
                    functional_call(net, {name: weights[name] * m[name] for name in m}, (images,))
                net.eval()
                for there, here in zip(other.buffers(), net.buffers(), strict=True):
                    there.copy_(here)
                unperturbed = functional_call(net, {name: weights[name] * m[name] for name in m}, (images,))
                perturbed = functional_call(other, {name: moved[name] * m[name] for name in m}, (images,))
                objective = (unperturbed - perturbed).square().sum()
                for name, gradient in zip(m, torch.autograd.grad(objective, list(m.values())), strict=True):
                    sums[name] += gradient
        return {name: (total * mask[name]).abs() for name, total in sums.items()}

    def _copy(self, model: nn.Module) -> nn.Module:
        twin = copy.deepcopy(model).requires_grad_(False).eval()
        for module in twin.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 1.0
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        return twin


def scorers(case: Case) -> dict[str, Scorer]:
    return {"plain": Plain(case.draws), "ours": NtkSap(draws=case.draws)}


def rank_correlation(left: Tensors, right: Tensors, mask: Mask) -> float:
    """Spearman's, over the weights alive; above 2 million a regular sample of them."""
    ranks = []
    for scores in (left, right):
        flat = torch.cat([scores[name][mask[name]] for name in mask]).cpu()
        flat = flat[:: max(1, flat.numel() // 2_000_000)]
        rank = torch.empty(flat.numel(), dtype=torch.float64)
        rank[flat.argsort()] = torch.arange(flat.numel(), dtype=torch.float64)
        ranks.append(rank)
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def largest_gap(left: Mask, right: Mask) -> float:
    """The largest difference of a layer's density."""
    return max(abs(left[name].float().mean().item() - right[name].float().mean().item()) for name in left)


def agreement(case: Case, device: str) -> dict[str, Any]:
    """Scores and masks of both writings on equal draws; and of the plain one on other draws.

    Over several rounds masks drift apart: each round scores what the last one left, and which ReLUs the perturbation
    switches depends on every weight. What other draws change is what such a difference is to be held against.
    """
    model, budget = case.build(device), Budget(sparsity=0.9)
    plain, ours = scorers(case).values()
    runs = {"plain": (plain, case.inputs()), "ours": (ours, case.inputs()), "other draws": (plain, case.inputs(1))}
    masks = {name: prune(model, scorer, inputs, budget, rounds=case.rounds) for name, (scorer, inputs) in runs.items()}
    result: dict[str, Any] = {"rounds": case.rounds}
    for stage, mask in (("dense", Mask.dense(model)), ("sparse", masks["plain"])):
        scored = {name: scorer.score(model, mask, inputs, 0) for name, (scorer, inputs) in runs.items()}
        for name in ("ours", "other draws"):
            result[f"spearman, {stage}, {name}"] = rank_correlation(scored["plain"], scored[name], mask)
        halves = {name: keep_best(scores, mask, mask.kept // 2) for name, scores in scored.items()}
        for name in ("ours", "other draws"):
            gap = largest_gap(halves["plain"], halves[name])
            result[f"largest gap of a layer's density, {stage} halved, {name}"] = gap
    for name in ("ours", "other draws"):
        gap = largest_gap(masks["plain"], masks[name])
        result[f"largest gap of a layer's density, after {case.rounds} rounds, {name}"] = gap
    return result


def peak_bytes(case: Case, which: str, device: str) -> int:
    """Peak RSS (peak allocated on a GPU) of two rounds in a fresh process."""
    program = [sys.executable, __file__, "--peak", case.model, which, "--device", device]
    threads = ["--threads", str(torch.get_num_threads())]
    return int(subprocess.run([*program, *threads], check=True, capture_output=True, text=True).stdout)


def print_peak(name: str, which: str, device: str) -> None:
    case = {"resnet20": RESNET20, "resnet50": RESNET50}[name]
    model = case.build(device)
    mask = Mask.dense(model)
    for index in range(2):
        scorers(case)[which].score(model, mask, case.inputs(), index)
    if device == "cuda":
        print(torch.cuda.max_memory_allocated())
        return
    status = Path("/proc/self/status").read_text()
    print(1024 * int(status.partition("VmHWM:")[2].split()[0]))


def rounds_of(case: Case, device: str) -> tuple[dict[str, Any], list[str]]:
    """Section 1 for one network."""
    model = case.build(device)
    mask = Mask.dense(model)
    calls: dict[str, Callable[[], object]] = {
        name: lambda scorer=scorer: scorer.score(model, mask, case.inputs(), 0)  # type: ignore[misc]
        for name, scorer in scorers(case).items()
    }
    times = interleave(calls, case.runs, warmup=1)
    ratio = ratios(times, "plain", "ours")
    seconds = {name: statistics.median(each) for name, each in times.items()}
    lines = [
        f"{case.label}, {device}: a round takes {seconds['plain']:.3f} s written plainly, {seconds['ours']:.3f} s "
        f"here; ratio {ratio['median']:.2f} (quartiles {ratio['q1']:.2f} to {ratio['q3']:.2f}, n = {ratio['n']})"
    ]
    row: dict[str, Any] = {"case": case.label, "device": device, "times_s": times, "ratio": ratio}
    row["agreement"] = agreement(case, device)
    lines += [f"  {name}: {value:.4f}" for name, value in row["agreement"].items() if name != "rounds"]
    if case is not SMALL:
        row["peak_bytes"] = {name: peak_bytes(case, name, device) for name in calls}
        plain, ours = (row["peak_bytes"][name] / 2**20 for name in ("plain", "ours"))
        lines.append(f"  peak: {plain:,.0f} MiB written plainly, {ours:,.0f} MiB here; ratio {ours / plain:.2f}")
    return row, lines


def labelled(case: Case, device: str) -> ScoringInputs:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(case.batch, 3, case.size, case.size, generator=generator)
    labels = torch.arange(case.batch) % case.classes
    return ScoringInputs(case.inputs().shape, batch_size=case.batch, data=(images.to(device), labels.to(device)))


def methods(
    case: Case, device: str, names: tuple[str, ...], rounds: int | None
) -> Iterator[tuple[dict[str, Any], str]]:
    """Section 2: seconds of `prune` at 90 % sparsity; of many rounds the first few stand for all."""
    model, inputs = case.build(device), labelled(case, device)
    for name in names:
        scorer = make_scorer(name, draws=case.draws)
        usual = scorer.default_rounds
        count = min(usual, MEASURED_ROUNDS) if rounds is None else rounds
        start = time.perf_counter()
        prune(model, scorer, inputs, Budget(sparsity=0.9), rounds=count)
        seconds = time.perf_counter() - start
        row = {"method": name, "case": case.label, "device": device, "rounds": count, "seconds": seconds}
        per_round = seconds / count
        total = f"so its {usual} rounds take {per_round * usual:7.1f} s" if usual > count else ""
        yield (
            {**row, "default_rounds": usual},
            f"  {name:<10} {per_round:8.3f} s a round, n = {count}  {total}".rstrip(),
        )


def selection(case: Case, device: str) -> tuple[dict[str, Any], str]:
    """Section 3: half of the weights, then four fifths of the rest."""
    mask = Mask.dense(case.build(device))
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.rand(kept.shape, generator=generator).to(device) for name, kept in mask.items()}
    half = keep_best(scores, mask, mask.total // 2)
    keep = mask.total // 10
    calls = {"of all": lambda: keep_best(scores, mask, keep), "of half": lambda: keep_best(scores, half, keep)}
    times = interleave(calls, 3, warmup=1)
    text = ", ".join(f"{name} {statistics.median(each):.2f} s" for name, each in times.items())
    return {"selection": mask.total, "keep": keep, "device": device, "times_s": times}, (
        f"selection of {keep:,} out of {mask.total:,} scores, {device}: {text}"
    )


def run(device: str, quick: bool = False) -> None:
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for case in (SMALL,) if quick else (RESNET20, RESNET50):
        row, text = rounds_of(case, device)
        rows.append(row)
        lines += [*text, ""]
    small = SMALL if quick else RESNET20
    tables: list[tuple[Case, tuple[str, ...], int | None]] = [
        (small, tuple(name for name in SCORERS if SCORERS[name].kind == "initialization"), 1 if quick else None)
    ]
    if not quick:
        tables.append((RESNET50, ("ntksap", "snip", "synflow", "magnitude"), 1))
    for case, names, rounds in tables:
        lines.append(f"{case.label}, {device}: to 90 % sparsity")
        for row, line in methods(case, device, names, rounds):
            rows.append(row)
            lines.append(line)
        lines.append("")
    row, line = selection(small if quick else RESNET50, device)
    rows.append(row)
    lines.append(line)
    if quick:
        print("\n".join(lines))
    else:
        save("pruning" if device == "cpu" else "pruning_cuda", rows, "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small network, one round of each method; nothing saved")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="threads of the CPU")
    parser.add_argument("--peak", nargs=2, metavar=("MODEL", "WRITING"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here: nothing was measured")
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.peak:
        print_peak(*given.peak, given.device)
    else:
        run(given.device, given.quick)


if __name__ == "__main__":
    main()
