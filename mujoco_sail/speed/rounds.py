"""What is timed, in turns and round by round, on workers that live throughout."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mujoco_sail.agents.registry import Entry
from mujoco_sail.speed.plan import Plan
from mujoco_sail.speed.products import WAYS, product_operations
from mujoco_sail.speed.team import Team
from mujoco_sail.speed.worker import Order, SB3SACBFloat16
from mujoco_sail.training.benchmark import cores, shards, threads
from mujoco_sail.training.run import Member

SHARE = "x"  # unit of a ratio
Teams = Mapping[tuple[str, int], Team]


@dataclass
class Rate:
    """One quantity, timed in every round.

    Attributes:
        measurement: "train", "update", "environment" (what a step takes besides its update,
            in update times), "evaluation" (with the log), or a `Way` of a matrix product.
        learner: Agent's name; none for a matrix product.
        members: M.
        precision: Number format.
        unit: Of the values.
        team: Who does it.
        order: What they do.
        amounts: What one call of each worker is worth, in the unit's numerator.
        values: One per round.
    """

    measurement: str
    learner: str
    members: int
    precision: str
    unit: str
    team: Team
    order: Order
    amounts: Sequence[float]
    values: list[float] = field(default_factory=list)

    @property
    def processes(self) -> int:
        """Workers that do it at once."""
        return len(self.amounts)

    @property
    def place(self) -> tuple[str, str, int, int, str]:
        """What is measured, and how."""
        return self.measurement, self.learner, self.members, self.order.threads, self.precision

    def take(self) -> None:
        """Measures once more: the workers' rates, added up."""
        calls = self.team.carry_out(self.order, self.processes)
        self.values.append(float(calls @ self.amounts))


def measure(plan: Plan, say: Callable[[str], None]) -> list[Rate]:
    """Times everything.

    Args:
        plan: What is compared.
        say: Told of the progress.

    Raises:
        WorkerError: A worker failed.
    """
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:

        def team(name: str, stacks: Sequence[Sequence[Member]]) -> Team:
            folder = Path(scratch, name)
            return stack.enter_context(Team(plan.task, stacks, plan.device, folder))

        ours = {
            (entry.name, count): team(f"{entry.name}_{count}", _stacks(plan, entry, count))
            for entry in plan.entries
            for count in plan.members
        }
        most = min(max(plan.members), plan.processes)
        peers = {
            precision: team(precision, [[Member(peer, seed)] for seed in range(most)])
            for precision, peer in _peers(plan).items()
        }
        say("warm-up")
        for each in [*ours.values(), *peers.values()]:
            each.warm()
        rates: dict[object, Rate] = {}
        for count in plan.members:
            for rate in _of_one_size(plan, count, ours, peers):
                rates.setdefault(rate.place, rate)
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}")
            for rate in rates.values():
                rate.take()
        say(f"an evaluation of {max(plan.members)} members")
        evaluations = list(_evaluations(plan, ours))
        for rate in evaluations:
            rate.take()
        return [*rates.values(), *evaluations]


def _stacks(plan: Plan, entry: Entry, count: int) -> list[list[Member]]:
    members = [Member(entry, seed) for seed in range(count)]
    return [stacks[0] for stacks in shards(members, plan.processes)]


def _peers(plan: Plan) -> dict[str, Entry]:
    """The peer as it is, and in bfloat16 where that is asked for."""
    if plan.task.precision == "bfloat16":
        return {"float32": plan.peer, "bfloat16": replace(plan.peer, agent=SB3SACBFloat16)}
    return {plan.task.precision: plan.peer}


def _of_one_size(plan: Plan, count: int, ours: Teams, peers: Mapping[str, Team]) -> Iterator[Rate]:
    """All about M members: what is compared stands next to each other."""
    own = threads(min(count, plan.processes))
    for entry in plan.entries:
        team, order = ours[entry.name, count], Order("train", plan.seconds, own)
        yield _rate(plan, "train", entry.name, "member-steps/s", team, order)
    # The peer: one process per core, each with one thread; a single run may have all threads.
    at_once = min(count, plan.processes)
    for its in sorted({1, cores()}) if at_once == 1 else [1]:
        for precision, team in peers.items():
            order, runs = Order("train", plan.seconds, its), team.sizes[:at_once]
            rate = _rate(plan, "train", plan.peer.name, "member-steps/s", team, order, runs)
            yield replace(rate, members=at_once, precision=precision)
    for entry in plan.entries:
        team, order = ours[entry.name, count], Order("update", plan.seconds, own)
        yield _rate(plan, "update", entry.name, "member-updates/s", team, order)
        if count == max(plan.members):
            order, mean = Order("overhead", plan.seconds, own), [n / count for n in team.sizes]
            yield _rate(plan, "environment", entry.name, SHARE, team, order, mean)
    team = ours[plan.entries[0].name, count]
    work = [product_operations(plan.task, size) / 1e9 for size in team.sizes]
    for way in WAYS:
        order = Order(way, plan.seconds / len(WAYS), own)
        yield _rate(plan, way, "", "GFLOP/s", team, order, work)


def _evaluations(plan: Plan, ours: Teams) -> Iterator[Rate]:
    """What is due once in a period, for the largest number of members."""
    for entry in plan.entries:
        team, order = ours[entry.name, max(plan.members)], Order("due", 0)
        yield _rate(plan, "evaluation", entry.name, "member-evaluations/s", team, order)


def _rate(
    plan: Plan,
    measurement: str,
    learner: str,
    unit: str,
    team: Team,
    order: Order,
    amounts: Sequence[float] | None = None,
) -> Rate:
    precision = plan.task.precision
    worth = team.sizes if amounts is None else amounts
    return Rate(measurement, learner, sum(team.sizes), precision, unit, team, order, worth)
