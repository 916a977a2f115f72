"""The table of methods: literal strings, so that listing them imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ScorerInfo:
    """One method.

    Attributes:
        target: where its class stands.
        needs_data: whether it reads images and labels.
        summary: what it does.
        options: settings that it takes.
        kind: whether it judges a network as it was drawn, or one that was trained.
        filters: whether it judges whole filters, so that channels alone can be chosen by it.
    """

    target: str
    needs_data: bool
    summary: str
    options: tuple[str, ...] = ()
    kind: Literal["initialization", "trained"] = "initialization"
    filters: bool = False


SCORERS: dict[str, ScorerInfo] = {
    "ntksap": ScorerInfo(
        "ntksap_export.pruning.scorers.ntksap:NtkSap",
        False,
        "Keep what moves the spectrum of the neural tangent kernel most (Wang, Li & Sun, ICLR 2023)",
        options=("epsilon", "draws", "sampler"),
    ),
    "snip": ScorerInfo(
        "ntksap_export.pruning.scorers.snip:Snip",
        True,
        "Keep what would change the loss most, one shot (Lee, Ajanthan & Torr, ICLR 2019)",
    ),
    "iter-snip": ScorerInfo(
        "ntksap_export.pruning.scorers.iter_snip:iter_snip",
        True,
        "SNIP on what is left, over many rounds (de Jorge et al., ICLR 2021)",
    ),
    "force": ScorerInfo(
        "ntksap_export.pruning.scorers.force:Force",
        True,
        "SNIP of the network that is left; pruned weights may come back (de Jorge et al., ICLR 2021)",
    ),
    "grasp": ScorerInfo(
        "ntksap_export.pruning.scorers.grasp:Grasp",
        True,
        "Keep what would shrink the gradient flow most, one shot (Wang, Zhang & Grosse, ICLR 2020)",
    ),
    "synflow": ScorerInfo(
        "ntksap_export.pruning.scorers.synflow:SynFlow",
        False,
        "Keep what carries most synaptic flow (Tanaka et al., NeurIPS 2020)",
    ),
    "px": ScorerInfo(
        "ntksap_export.pruning.scorers.px:Px",
        True,
        "Keep the paths that data opens and weights carry (Iurada, Ciccone & Tommasi, CVPR 2024)",
    ),
    "prospr": ScorerInfo(
        "ntksap_export.pruning.scorers.prospr:ProsPr",
        True,
        "Keep what matters to the loss after a few steps of training (Alizadeh et al., ICLR 2022)",
    ),
    "phew": ScorerInfo(
        "ntksap_export.pruning.scorers.phew:Phew",
        False,
        "Keep what random walks over large weights meet first (Patil & Dovrolis, ICML 2021)",
    ),
    "magnitude": ScorerInfo(
        "ntksap_export.pruning.scorers.magnitude:Magnitude",
        False,
        "Keep the largest weights, drawn or trained",
    ),
    "random": ScorerInfo(
        "ntksap_export.pruning.scorers.random:RandomDensities",
        False,
        "The same density in every layer, by chance: the control that a method has to beat",
    ),
    "erk": ScorerInfo(
        "ntksap_export.pruning.scorers.erk:erk",
        False,
        "Erdos-Renyi-Kernel layer densities, by chance (Evci et al., ICML 2020): the strong control",
    ),
    "l1": ScorerInfo(
        "ntksap_export.pruning.scorers.l1:L1",
        False,
        "Keep the filters of large weights (Li et al., ICLR 2017)",
        kind="trained",
        filters=True,
    ),
    "bn-scale": ScorerInfo(
        "ntksap_export.pruning.scorers.bn_scale:BnScale",
        False,
        "Keep the filters that the BatchNorm behind them scales up: network slimming (Liu et al., ICCV 2017)",
        kind="trained",
        filters=True,
    ),
    "fpgm": ScorerInfo(
        "ntksap_export.pruning.scorers.fpgm:Fpgm",
        False,
        "Keep the filters far from the geometric median of their layer (He et al., CVPR 2019)",
        kind="trained",
        filters=True,
    ),
    "taylor": ScorerInfo(
        "ntksap_export.pruning.scorers.taylor:Taylor",
        True,
        "Keep what would change the loss most to first order (Molchanov et al., CVPR 2019)",
        kind="trained",
    ),
    "fisher": ScorerInfo(
        "ntksap_export.pruning.scorers.fisher:Fisher",
        True,
        "Keep what would change the loss most to second order, by the Fisher information (Theis et al., 2018)",
        kind="trained",
    ),
    "obd": ScorerInfo(
        "ntksap_export.pruning.scorers.obd:Obd",
        True,
        "Keep what would raise the loss most, by the diagonal of the Hessian (LeCun, Denker & Solla, NIPS 1989)",
        options=("probes",),
        kind="trained",
    ),
    "lamp": ScorerInfo(
        "ntksap_export.pruning.scorers.lamp:Lamp",
        False,
        "Keep the weights that are large beside what their layer keeps anyway (Lee et al., ICLR 2021)",
        kind="trained",
    ),
}
