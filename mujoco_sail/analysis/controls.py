"""Control experiments: comparisons of runs under different protocols.

A folder of controls has a folder of results for each protocol. An arm is an agent under one
protocol. A figure recipe declares which arms are compared, and the only keys in which they may
differ.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import pandas as pd

from mujoco_sail.analysis import estimates, paired
from mujoco_sail.analysis.across import HIGH, LOW, METRICS, gain, measures
from mujoco_sail.analysis.choice import MissingDataError, NotApplicableError, names_of
from mujoco_sail.analysis.inference import holm
from mujoco_sail.recipes.settings import setting
from mujoco_sail.results.pooling import NoRunsError, collect, differing
from mujoco_sail.results.read import RunRecord
from mujoco_sail.system.errors import UserError

AGAINST = "against"  # temporary agent name of the arm that another is compared with


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Comparison of two arms, with the prediction."""

    arm: str = setting()  # folder and agent, such as "labels_50/uniform"
    against: str = setting()  # folder and agent of the arm it is compared with
    predicted: Literal["better", "worse", "not better", "none"] = setting()
    differs: str = setting()  # keys joined by commas; `*` matches any characters


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Runs in a folder of controls that normalise returns."""

    folder: str = setting()  # folder of the runs of `LOW` and `HIGH`
    differs: str = setting()  # keys of the task in which they may differ from the other runs


class Arms:
    """Runs in a folder of controls.

    Args:
        folder: The folder.
        where: File of the recipe, for messages.
    """

    def __init__(self, folder: Path, where: str) -> None:
        self.folder, self.where = folder, where
        self._found: dict[str, list[RunRecord]] = {}

    def agents(self, protocol: str) -> list[str]:
        """Agents with finished runs under a protocol; none if it has no folder.

        Raises:
            UserError: The folder's runs cannot be pooled.
        """
        if not (self.folder / protocol).is_dir():
            return []
        runs = self._runs(protocol)
        return sorted({run.agent for run in runs if run.status == "complete"})

    def has(self, place: str) -> bool:
        """Whether an arm has finished runs; the name and the errors are those of `of`."""
        protocol, _, agent = place.rpartition("/")
        return agent in self.agents(protocol)

    def of(self, place: str) -> list[RunRecord]:
        """Finished runs of an arm, a folder and agent such as "labels_50/uniform".

        Raises:
            MissingDataError: There are no runs.
            NotApplicableError: There is no such folder.
            UserError: The folder's runs cannot be pooled.
        """
        runs = self._with(place, "complete")
        if not runs:
            raise MissingDataError(f"{self.where}: no finished run of '{place}' in {self.folder}")
        return runs

    def failed(self, *places: str) -> set[tuple[str, int]]:
        """Environments and seeds with a failed run of one of these arms."""
        there = [place for place in places if (self.folder / place).parent.is_dir()]
        return {(run.env, run.seed) for place in there for run in self._with(place, "failed")}

    def _with(self, place: str, status: str) -> list[RunRecord]:
        protocol, _, agent = place.rpartition("/")
        runs = self._runs(protocol)
        return [run for run in runs if run.agent == agent and run.status == status]

    def check_applicable(self, scale: Scale) -> None:
        """Checks that the folder is one of controls.

        Raises:
            NotApplicableError: It has no folder for the runs that normalise returns.
        """
        if not (self.folder / scale.folder).is_dir():
            raise NotApplicableError(f"{self.where}: no folder {self.folder / scale.folder}")

    def scale(self, scale: Scale, runs: Sequence[RunRecord]) -> list[RunRecord]:
        """Runs that normalise the returns of given runs, after a check that they match."""
        ends = [run for agent in (LOW, HIGH) for run in self.of(f"{scale.folder}/{agent}")]
        check_alike_but(ends, runs, f"{scale.differs}, agent.*")
        return ends

    def _runs(self, protocol: str) -> list[RunRecord]:
        if protocol not in self._found:
            folder = self.folder / protocol
            if not folder.is_dir():
                raise NotApplicableError(f"{self.where}: no folder {folder}")
            try:
                self._found[protocol] = collect(folder)
            except NoRunsError:
                self._found[protocol] = []
        return self._found[protocol]


def check_alike_but(
    runs: Sequence[RunRecord], others: Sequence[RunRecord], differs: str
) -> dict[str, None]:
    """Checks that runs differ from others only in given keys.

    Args:
        runs: Complete runs.
        others: Complete, poolable runs; only the first of each environment is compared.
        differs: Keys, see `Contrast`.

    Returns:
        The keys in which they differ, in order.

    Raises:
        UserError: Another key differs; the message names two runs, the key and both values.
    """
    allowed = names_of(differs)
    firsts = {run.env: run for run in reversed(others)}
    found: dict[str, None] = {}
    for run in runs:
        other = firsts.get(run.env, run)
        for key, (one, two) in differing(run, other).items():
            if not any(fnmatch(key, pattern) for pattern in allowed):
                raise UserError(
                    f"{run.folder} and {other.folder} differ in {key}:",
                    f"{one!r} and {two!r}; the recipe allows {differs}",
                )
            found[key] = None
    return found


def with_runs(comparisons: Mapping[str, Contrast], arms: Arms) -> dict[str, Contrast]:
    """Comparisons of which both arms have finished runs."""
    return {
        name: one
        for name, one in comparisons.items()
        if arms.has(one.arm) and arms.has(one.against)
    }


def of_one_arm(one: Contrast, arms: Arms) -> list[str]:
    """Environments on which only one of both arms has finished runs, sorted."""
    mine, theirs = ({run.env for run in arms.of(place)} for place in (one.arm, one.against))
    return sorted(mine ^ theirs)


def reason(one: Contrast, arms: Arms) -> str:
    """Reason why a comparison is not among those `with_runs`."""
    failed = arms.failed(*(place for place in (one.arm, one.against) if not arms.has(place)))
    return f"not finished, {len(failed)} failed" if failed else "not run"


def compare(comparisons: Mapping[str, Contrast], scale: Scale, arms: Arms) -> pd.DataFrame:
    """Evaluates all comparisons, paired by seed.

    Args:
        comparisons: Comparisons by name.
        scale: Runs that give the gain, the unit of differences.
        arms: The runs.

    Returns:
        The rows of `paired.by_environment` with the name as agent, and the columns predicted;
        failed, the number of seeds with a failed run of an arm; differs, the keys in which the
        arms differ. `p_holm` corrects over all comparisons. Equivalence is not tested.

    Raises:
        MissingDataError: An arm has no finished run.
        UserError: Two arms differ in more than they may, or a comparison has the name of an agent
            that is needed beside it.
    """
    tables = []
    for name, one in comparisons.items():
        if name in (LOW, HIGH, AGAINST):
            raise UserError(f"{arms.where}: a comparison cannot have the name '{name}'")
        mine, theirs = arms.of(one.arm), arms.of(one.against)
        keys = check_alike_but(mine, theirs, one.differs)
        runs = [replace(run, agent=name) for run in mine]
        runs += [replace(run, agent=AGAINST) for run in theirs] + arms.scale(scale, theirs)
        table = paired.by_environment(runs, AGAINST, margin=math.nan)
        more = {"baseline": one.against, "predicted": one.predicted, "differs": ", ".join(keys)}
        table = table[table["agent"] == name].assign(**more)
        failed = Counter(env for env, _ in arms.failed(one.arm, one.against))
        tables.append(table.assign(failed=[failed[env] for env in table["environment"]]))
    whole = pd.concat(tables, ignore_index=True)
    for metric in METRICS:
        of_metric = whole["metric"] == metric
        whole.loc[of_metric, "p_holm"] = holm(whole.loc[of_metric, "p"])
    return whole


def budgets(
    protocols: Iterable[str], agents: Sequence[str], differs: str, scale: Scale, arms: Arms
) -> pd.DataFrame:
    """Scores of agents with different label budgets.

    Args:
        protocols: Folders, one for each number of labels.
        agents: Names of agents; one without runs under a protocol is left out there.
        differs: Keys in which an agent's runs may differ between protocols, see `Contrast`.
        scale: See `compare`.
        arms: The runs.

    Returns:
        Columns environment, agent, labels, metric, seeds; score, the mean over seeds of the metric
        on the scale where `LOW` has 0 and `HIGH` 1 on average, with low and high, its 95 % t
        interval. A row for each protocol in which an agent has finished runs.

    Raises:
        NotApplicableError: The folder of the scale is missing.
        MissingDataError: No agent has a finished run, or the scale has none.
        UserError: See `compare`.
    """
    arms.check_applicable(scale)
    rows: list[dict[str, object]] = []
    firsts: dict[str, list[RunRecord]] = {}
    for protocol in protocols:
        for agent in [name for name in agents if name in arms.agents(protocol)]:
            runs = arms.of(f"{protocol}/{agent}")
            check_alike_but(runs, firsts.setdefault(agent, runs), differs)
            ends = measures(arms.scale(scale, runs)).groupby(["environment", "agent"])
            for env, of_env in measures(runs).groupby("environment"):
                if not {(env, LOW), (env, HIGH)} <= {*ends.groups}:
                    raise MissingDataError(
                        f"{arms.where}: no finished run of {LOW} and {HIGH} on {env} in "
                        f"{arms.folder / scale.folder}"
                    )
                labels = next(run.labels for run in runs if run.env == env)
                at: dict[str, object] = {"environment": env, "agent": agent, "labels": labels}
                for metric in METRICS:
                    means = ends[metric].mean()
                    zero, one = float(means[env, LOW]), float(means[env, HIGH])
                    above = estimates.of_mean(of_env[metric].to_numpy() - zero)
                    score = above.over(gain(zero, one))
                    low, high = score.interval()
                    numbers = {"seeds": len(of_env), "score": score.value, "low": low, "high": high}
                    rows.append(at | {"metric": metric} | numbers)
    if not rows:
        raise MissingDataError(f"{arms.where}: no finished run of {', '.join(agents)}")
    return pd.DataFrame(rows)
