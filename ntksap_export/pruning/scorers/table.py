"""The table of methods: literal strings, so that listing them imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScorerInfo:
    """One method: where its class stands, whether it reads images and labels, and what it does."""

    target: str
    needs_data: bool
    summary: str
    options: tuple[str, ...] = ()


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
        "Keep the largest initial weights",
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
}
