"""The statistics of `mujoco-sail table` as tables of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from mujoco_sail.analysis import across, paired, tables, tables_across
from mujoco_sail.analysis.across import POOLED
from mujoco_sail.analysis.verdict import verdicts
from mujoco_sail.results.read import RunRecord


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every agent against a baseline, each complete run a replicate.

    A table is computed when it is first read. All have a column `agent` and, but for `pooled` and
    `pooled_paired`, a column `env`. Numbers are nan where they are undefined; intervals, in the
    columns `_low` and `_high`, are 95 %. docs/results.md explains the statistics.

    `pooled`, `pooled_paired`, `effects` and `verdicts` put environments together. They raise
    `UserError` where that means nothing: environments under different protocols or teachers, or
    an agent with other hyperparameters. `pooled` and `effects` use scores between the agents
    `random` (0) and `sac` (1), and raise it where an environment lacks one of them.

    Attributes:
        baseline: The agent that the others are compared with.
        margin: Of equivalence, as a share of what `sac` gains on `random`.
    """

    baseline: str
    margin: float
    _runs: Sequence[RunRecord] = field(repr=False)

    @cached_property
    def environments(self) -> pd.DataFrame:
        """A row for each environment and agent, the numbers of `mujoco-sail table`.

        `seeds` that finished, `failed`, `labels`, `final_return`, its `iqm`,
        `area_under_curve`, Cohen's `d`, the probability of `improvement`, `success_rate`.
        """
        return _renamed(tables.comparison(self._runs, self.baseline))

    @cached_property
    def paired(self) -> pd.DataFrame:
        """A row for each metric ("auc", "final"), environment and agent: seeds are paired.

        `difference` in returns, `low`, `high`; `share`, the difference as a share of what `sac`
        gains on `random`; `d`, `p`, `p_holm`, `p_equivalence`, and what the design detects.
        """
        return _renamed(paired.by_environment(self._runs, self.baseline, self.margin))

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """A row for each agent over all environments, the numbers of `table --across`.

        `iqm` and `mean` of the normalised score, `improvement`, `d`, `p`, `p_holm`, and how many
        `runs` have `reached` half of what `sac` gains.
        """
        return tables_across.summary(self._runs, self._effects, self._labels, self.baseline)

    @cached_property
    def pooled_paired(self) -> pd.DataFrame:
        """The columns of `paired`, a row for each metric and agent over all environments."""
        rows = self._differences[self._differences["environment"] == POOLED]
        return rows.drop(columns=["environment", "difference", "low", "high"]).reset_index(
            drop=True
        )

    @cached_property
    def effects(self) -> pd.DataFrame:
        """A row for each environment and agent, with tests corrected over all of them.

        `d`, `p`, `p_holm` of the final return; `labels` used when the return first reached half
        of what `sac` gains, median over `seeds`; how many `reached` it.
        """
        return _renamed(
            tables_across.single(self._runs, self._effects, self._labels, self.baseline)
        )

    @cached_property
    def verdicts(self) -> list[str]:
        """One or two sentences for each agent that uses labels, from the pooled differences."""
        return verdicts(self._runs, self._differences, self.baseline, self.margin)

    @cached_property
    def _differences(self) -> pd.DataFrame:
        return paired.compare(self._runs, self.baseline, self.margin)

    @cached_property
    def _effects(self) -> pd.DataFrame:
        return across.effects(self._runs, self.baseline)

    @cached_property
    def _labels(self) -> pd.DataFrame:
        return across.labels_to_reach(self._runs)


def _renamed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"environment": "env"})
