"""Iter-SNIP: SNIP taken anew on the network that is left (de Jorge et al., "Progressive skeletonization", ICLR 2021).

    score = | w * dL/dw |        at the masked network, over 60 rounds of an exponential schedule

Reads images and labels. What was pruned stays pruned; FORCE (force.py) lets it come back.

Where it differs from the reference code: that differentiates the raw logit of the right class instead of the
cross-entropy, for want of a softmax; here it is the cross-entropy.
"""

from __future__ import annotations

from ntksap_export.pruning.scorers.snip import Snip


def iter_snip() -> Snip:
    """The scorer: SNIP in 60 rounds."""
    return Snip(default_rounds=60)
