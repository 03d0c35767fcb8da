"""Measurements in rounds: each is taken once per round, on workers that run throughout."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from mujoco_sail.agents.base import AgentSpec, Member
from mujoco_sail.speed.peers import Peer
from mujoco_sail.speed.plan import Plan
from mujoco_sail.speed.pool import WorkerPool
from mujoco_sail.speed.roofline import PRODUCT_CALLS, product_operations
from mujoco_sail.speed.worker import Request
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.scratch import scratch_folder
from mujoco_sail.training.pool import stacks_of_workers, threads

RATIO = "x"  # unit of a ratio
Pools = Mapping[tuple[str, int], WorkerPool]


@dataclass
class Rate:
    """Quantity that is measured in every round.

    Attributes:
        measurement: "train", "update", "environment" (the time of a step besides its update,
            divided by the time of an update), "evaluation" (with the log), or a `ProductCall`.
        learner: Name of the agent; empty for a matrix product.
        members: M.
        precision: Number format.
        unit: Unit of the values.
        pool: Workers that are measured.
        request: Request that they execute.
        amounts: Amount per call and worker, in the numerator of the unit.
        values: Values, one per round.
    """

    measurement: str
    learner: str
    members: int
    precision: str
    unit: str
    pool: WorkerPool
    request: Request
    amounts: Sequence[float]
    values: list[float] = field(default_factory=list)

    @property
    def processes(self) -> int:
        """Number of workers that execute the request at once."""
        return len(self.amounts)

    @property
    def place(self) -> tuple[str, str, int, int, str]:
        """Key that is equal for measurements of the same quantity."""
        return self.measurement, self.learner, self.members, self.request.threads, self.precision

    def take(self) -> None:
        """Measures a value, the sum of the workers' rates."""
        calls = self.pool.run(self.request, self.processes)
        self.values.append(float(calls @ self.amounts))


def measure(plan: Plan, say: Callable[[str], None]) -> list[Rate]:
    """Takes all measurements.

    Args:
        plan: Settings of the comparison.
        say: Called with lines about the progress.

    Raises:
        UserError: No temporary folder can be made.
        WorkerError: A worker failed.
    """
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_folder())
        except OSError as error:
            raise UserError(f"no temporary folder can be made: {error}; set TMPDIR") from error

        def pool(
            name: str, stacks: Sequence[Sequence[Member]], variables: Mapping[str, str]
        ) -> WorkerPool:
            folder = scratch / name
            made = WorkerPool(plan.task, stacks, plan.device, folder, variables)
            return stack.enter_context(made)

        ours = {
            (spec.name, count): pool(f"{spec.name}_{count}", _stacks(plan, spec, count), {})
            for spec in plan.specs
            for count in plan.members
        }
        peers = []
        for number, peer in enumerate(itertools.chain(*plan.peers.values())):
            if most := max(
                (n for n in map(plan.peers_at_once, plan.members) if peer.threads_of(n)), default=0
            ):
                stacks = [[Member(peer.spec, seed)] for seed in range(most)]
                peers.append((peer, pool(f"peer_{number}", stacks, peer.variables)))
        say("warm-up")
        for each in [*ours.values(), *(pool for _, pool in peers)]:
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


def _stacks(plan: Plan, spec: AgentSpec, count: int) -> list[list[Member]]:
    members = [Member(spec, seed) for seed in range(count)]
    return [stacks[0] for stacks in stacks_of_workers(members, plan.processes)]


def _of_one_size(
    plan: Plan, count: int, ours: Pools, peers: Sequence[tuple[Peer, WorkerPool]]
) -> Iterator[Rate]:
    """Measurements for M members; those that are compared follow directly after each other."""
    at_once = plan.at_once(count)
    own = threads(plan.task, at_once)
    for spec in plan.specs:
        pool, request = ours[spec.name, count], Request("train", plan.seconds, own)
        yield _rate(plan, "train", spec.name, "member-steps/s", pool, request)
    for peer, pool in peers:
        processes = plan.peers_at_once(count)
        for its in peer.threads_of(processes):
            request, runs = Request("train", plan.seconds, its), pool.sizes[:processes]
            rate = _rate(plan, "train", peer.spec.name, "member-steps/s", pool, request, runs)
            yield replace(rate, members=processes, precision=peer.precision)
    for spec in plan.specs:
        pool, request = ours[spec.name, count], Request("update", plan.seconds, own)
        yield _rate(plan, "update", spec.name, "member-updates/s", pool, request)
        if count == max(plan.members):
            request, mean = Request("overhead", plan.seconds, own), [n / count for n in pool.sizes]
            yield _rate(plan, "environment", spec.name, RATIO, pool, request, mean)
    pool = ours[plan.specs[0].name, count]
    work = [product_operations(plan.task, size) / 1e9 for size in pool.sizes]
    for way in PRODUCT_CALLS:
        request = Request(way, plan.seconds / len(PRODUCT_CALLS), own)
        yield _rate(plan, way, "", "GFLOP/s", pool, request, work)


def _evaluations(plan: Plan, ours: Pools) -> Iterator[Rate]:
    """Measurement of an evaluation with its log, for the largest number of members."""
    for spec in plan.specs:
        pool, request = ours[spec.name, max(plan.members)], Request("due", 0)
        yield _rate(plan, "evaluation", spec.name, "member-evaluations/s", pool, request)


def _rate(
    plan: Plan,
    measurement: str,
    learner: str,
    unit: str,
    pool: WorkerPool,
    request: Request,
    amounts: Sequence[float] | None = None,
) -> Rate:
    precision = plan.task.precision
    worth = pool.sizes if amounts is None else amounts
    return Rate(measurement, learner, sum(pool.sizes), precision, unit, pool, request, worth)
