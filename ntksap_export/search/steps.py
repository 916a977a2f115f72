"""Pruning in steps: score, remove a part, train what is left, and score again; for any method that scores.

The rounds of the method's schedule are spread over the steps, as many for each; before every step but the first the
network is trained for `--step-epochs`, as the run trains: a whole schedule of that length. After the last step follows
the run's own training. What a step removed stays removed, whatever the method would bring back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from torch import nn

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning import Scorer, Scores, ScoringInputs
from ntksap_export.search.choice import Judging, choose
from ntksap_export.search.job import Found, SearchJob
from ntksap_export.search.trainings import Trainings, trainings


def by_steps(job: SearchJob) -> Found:
    """Prune by `job.scorer` with training between its rounds; see `run_search`."""
    if job.scorer is None:
        raise ConfigError("pruning in steps needs a method that scores; give SearchJob(scorer=...)")
    asked = job.scorer.default_rounds if job.rounds is None else job.rounds
    each = -(-asked // job.steps)  # rounded up
    inputs = None if job.inputs is None else job.inputs()
    with trainings(job) as work:
        network = copy.deepcopy(job.model)
        choice = choose(job, _Trained(work, network, job.scorer, each), inputs, rounds=each * job.steps)
    return choice.found(network, work.log("steps", steps=job.steps, rounds_per_step=each))


@dataclass(eq=False)
class _Trained(Judging):
    """Scores a network that is trained further before each step.

    Attributes:
        work: what trains.
        network: trained in place.
        scorer: the method.
        each: rounds of a step.
    """

    work: Trainings
    network: nn.Module
    scorer: Scorer
    each: int

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Scores:  # noqa: ARG002
        """Score the network as training left it; see `Scorer.score`."""
        job = self.work.job
        step, begun = divmod(round_index, self.each)
        if step and not begun:
            self.work.run(f"step-{step:03d}", self.network, mask, replace(job.train, epochs=job.step_epochs))
        return self.scorer.score(self.network, mask, inputs, round_index)
