"""GReg-1: a growing L2 on the weights that L1 chose, then their removal (Wang, Qin, Zhang & Fu, ICLR 2021).

    chosen once:   the smallest |w| (single weights), the filters of least L1 norm (`--pattern channel`)
    training:      grad(w) += reg(t) * w    on the chosen weights; on filters, on their weights alone

Reads training images and labels; rate and growth in `growing`. Differs from the reference code: the growth is scaled to
the length of the search. What norms behind a filter do with it is left as it is; TPP pushes them out too.
"""

from __future__ import annotations

from torch import nn

from ntksap_export.search.choice import Choice
from ntksap_export.search.growing import Growth, Hook, grow, l2_of, pruned_weights, removed_rows
from ntksap_export.search.job import Found, SearchJob


def greg(job: SearchJob) -> Found:
    """Push out what L1 chose; see `run_search`."""
    return grow(job, "greg", _hook)


def _hook(network: nn.Module, choice: Choice, growth: Growth) -> Hook:
    if choice.plan is None:
        return l2_of(pruned_weights(network, choice.mask), growth)
    return l2_of(removed_rows(network, choice.plan), growth)
