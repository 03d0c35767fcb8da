"""What all agents of a comparison share: environment, schedule, network sizes and teacher."""

from dataclasses import dataclass
from typing import Literal

from mujoco_sail.recipes.settings import demand, setting

# Upper bounds of sizes: larger values can only be mistakes in typing.
MOST = 100_000
MOST_LAYERS = 100


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A synthetic teacher; the neutral value of every field is the perfect oracle.

    Source: B-Pref (Lee et al. 2021, arXiv 2111.03026), Algorithm 1; `preferences.teacher` says
    where the units differ.
    """

    # Rationality: inverse temperature per root mean square difference of the returns of the pairs
    # that the teacher is shown, so one beta means the same on every task.
    beta: float = setting(above=0, infinite=True)
    # Probability that a strict preference is flipped.
    mistake: float = setting(low=0, high=1)
    # A pair is refused if both segments stay below this share of the recent mean return, all
    # returns counted from a floor: the low end of the reward range or, if lower, the lowest
    # recent reward.
    skip: float = setting(low=0)
    # Two segments are equal if they differ by less than this share of the same mean return.
    equal: float = setting(low=0)
    # Discount per step, counted back from the end of a segment.
    myopic: float = setting(above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One environment under one protocol: all that the agents of a comparison share."""

    name: str = setting()
    protocol: str = setting()
    title: str = setting()

    # --- the environment ---
    id: str = setting()  # Gymnasium id
    backend: Literal["gymnasium", "envpool"] = setting()  # what simulates it
    episode_steps: int = setting(low=1)  # time limit, environment steps
    # "fixed": an episode runs to its time limit whatever happens; "variable": it may terminate
    # early, which leaks the task reward into the preferences.
    horizon: Literal["fixed", "variable"] = setting()
    goal_visible: bool = setting()  # whether the goal is observed (Meta-World can hide it)
    # Task rewards per step that the teacher's normalisation maps to 0 and to 1.
    reward_range: tuple[float, float] = setting()

    # --- schedule, in environment steps ---
    steps: int = setting(low=1)
    random_steps: int = setting(low=1)  # uniformly random actions at the start
    exploration_steps: int = setting(low=0)  # then driven by state entropy
    evaluation_every: int = setting(low=1)
    evaluation_episodes: int = setting(low=1, high=MOST)
    log_every: int = setting(low=1)  # rows of training.csv
    checkpoint_minutes: float = setting(above=0)  # wall time between checkpoints

    # --- actor and critic ---
    learning_rate: float = setting(above=0)
    batch_size: int = setting(low=1, high=MOST)  # transitions
    hidden_units: int = setting(low=1, high=MOST)
    hidden_layers: int = setting(low=1, high=MOST_LAYERS)
    replay_capacity: int = setting(low=1)  # transitions
    # Whether CUDA launches whole updates as one recording; the CPU never does.
    cuda_graph: bool = setting()
    # What carries out updates; "compiled" needs a C++ compiler.
    engine: Literal["eager", "compiled"] = setting()
    # Of the networks' products; parameters, moments and losses are float32 whatever it is.
    precision: Literal["float32", "tf32", "bfloat16"] = setting()

    # --- feedback ---
    teacher: str = setting()  # names of teachers, joined by "+"
    labels: int = setting(low=1)  # budget of a run
    labels_per_session: int = setting(low=2, high=MOST)
    session_every: int = setting(low=1)
    segment_steps: int = setting(low=1)
    query_window: int = setting(low=1)  # newest episodes that segments come from
    candidates_per_label: int = setting(low=1, high=MOST)

    # --- reward learner ---
    reward_units: int = setting(low=1, high=MOST)
    reward_layers: int = setting(low=1, high=MOST_LAYERS)
    reward_batch_size: int = setting(low=1, high=MOST)  # pairs of segments
    reward_epochs: int = setting(low=1)

    # --- reference policy (SAIL-RevKL) ---
    reference_after: int = setting(low=2)  # nothing is learned at the first step
    reference_every: int = setting(low=1)

    oracle: Teacher  # what `teacher` resolved to

    @property
    def first_session(self) -> int:
        """Environment step of the first label session."""
        return self.random_steps + self.exploration_steps

    @property
    def labels_in_reach(self) -> int:
        """Labels that fit into a run of this length."""
        sessions = max(0, 1 + (self.steps - self.first_session) // self.session_every)
        return min(self.labels, sessions * self.labels_per_session)

    def __post_init__(self) -> None:
        """Checks what no single key can show."""
        low, high = self.reward_range
        conditions = [
            ("reward_range", low < high, "[low, high] with low < high"),
            (
                "segment_steps",
                self.segment_steps <= self.episode_steps,
                f"at most episode_steps = {self.episode_steps}",
            ),
            (
                "segment_steps",
                2 * self.segment_steps <= self.replay_capacity,
                f"at most half of replay_capacity = {self.replay_capacity}, "
                "or old and running episodes could both hold none",
            ),
            (
                "candidates_per_label",
                self.candidates_per_label * self.labels_per_session <= MOST,
                f"at most {MOST} candidates in a session",
            ),
            (
                "labels",
                self.labels >= self.labels_per_session,
                f"at least one session, labels_per_session = {self.labels_per_session}",
            ),
            (
                "labels",
                self.labels % self.labels_per_session == 0,
                f"a multiple of labels_per_session = {self.labels_per_session}",
            ),
            (
                "evaluation_every",
                self.evaluation_every <= self.steps,
                f"at most steps = {self.steps}, or nothing would be evaluated",
            ),
            (
                "segment_steps",
                self.segment_steps < self.first_session,
                f"less than random_steps + exploration_steps = {self.first_session}",
            ),
            (
                "reference_after",
                self.reference_after >= self.random_steps,
                f"at least random_steps = {self.random_steps}",
            ),
            (
                "goal_visible",
                self.goal_visible or self.id.startswith("Meta-World/"),
                "true: only Meta-World can hide a goal",
            ),
        ]
        demand(self, conditions, f"{self.name}: ")
