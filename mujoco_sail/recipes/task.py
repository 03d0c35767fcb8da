"""Task: environment, schedule, network sizes and teacher, equal for all agents of a comparison."""

from dataclasses import dataclass
from typing import Any, Literal

from mujoco_sail.recipes.ids import META_WORLD
from mujoco_sail.recipes.settings import demand, setting

# Upper bounds of sizes, to reject typing errors.
MOST = 100_000
MOST_LAYERS = 100
HUMAN = "human"  # the teacher that is a person


def is_due(step: int, first: int, every: int) -> bool:
    """Whether a periodic action is due at an environment step."""
    return step >= first and (step - first) % every == 0


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Settings of a synthetic teacher; with the neutral value of every field, a perfect oracle.

    Source: B-Pref (Lee et al. 2021, arXiv 2111.03026), Algorithm 1; `preferences.teacher`
    describes where the units differ.
    """

    # Rationality: inverse temperature of the Bradley-Terry model, in units of the root mean square
    # difference of returns over the candidate pairs, so that one beta means the same on every task.
    beta: float = setting(above=0, infinite=True)
    # Probability that a strict preference is flipped.
    mistake: float = setting(low=0, high=1)
    # Mean probability, over the pairs shown, that a strict preference is flipped because its
    # segments look alike: from 0 for the least alike pair to twice this value for the most alike.
    similarity: float = setting(low=0, high=0.5)
    # A pair is refused if both segments are below this fraction of the recent mean return. Returns
    # are measured from a floor: the lower end of the reward range or, if lower, the lowest recent
    # reward.
    skip: float = setting(low=0)
    # Two segments are equal if they differ by less than this fraction of the same mean return.
    equal: float = setting(low=0)
    # Discount per step before the end of a segment.
    myopic: float = setting(above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Environment under one protocol, with everything that the agents of a comparison share."""

    name: str = setting()
    protocol: str = setting()
    title: str = setting()
    question: str = setting()  # what a person is asked about two segments

    # --- the environment ---
    id: str = setting()  # Gymnasium id
    backend: Literal["gymnasium", "envpool"] = setting()  # simulator
    episode_steps: int = setting(low=1)  # time limit, environment steps
    # "fixed": episodes always run to the time limit; "variable": they may terminate early, which
    # leaks the task reward into the preferences.
    horizon: Literal["fixed", "variable"] = setting()
    goal_visible: bool = setting()  # whether the goal is observed (Meta-World can hide it)
    # Lowest and highest task reward per step: the scale of `skip` and `equal`.
    reward_range: tuple[float, float] = setting()

    # --- schedule, in environment steps ---
    steps: int = setting(low=1)
    random_steps: int = setting(low=1)  # uniformly random actions at the start
    exploration_steps: int = setting(low=0)  # then with the state entropy as reward
    evaluation_every: int = setting(low=1)
    evaluation_episodes: int = setting(low=1, high=MOST)
    log_every: int = setting(low=1)  # steps between rows of training.csv
    checkpoint_minutes: float = setting(above=0)  # wall time between checkpoints

    # --- actor and critic ---
    learning_rate: float = setting(above=0)
    batch_size: int = setting(low=1, high=MOST)  # transitions
    hidden_units: int = setting(low=1, high=MOST)
    hidden_layers: int = setting(low=1, high=MOST_LAYERS)
    replay_capacity: int = setting(low=1)  # transitions
    # Whether whole updates are recorded as a CUDA graph; without effect on the CPU.
    cuda_graph: bool = setting()
    # How updates are executed; "compiled" needs a C++ compiler.
    engine: Literal["eager", "compiled"] = setting()
    # Precision of matrix products; parameters, moments and losses are always float32.
    precision: Literal["float32", "tf32", "bfloat16"] = setting()

    # --- feedback ---
    teacher: str = setting()  # names of teachers, joined by "+"
    labels: int = setting(low=1)  # label budget of a run
    labels_per_session: int = setting(low=1, high=MOST)
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

    oracle: Teacher  # settings of the teachers that `teacher` names

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the environment; a class of tasks with keys of its own passes them on."""
        return {}

    @property
    def source(self) -> str | None:
        """Digest of files of the user that results depend on, besides recipes; None without any."""
        return None

    @property
    def width(self) -> int:
        """Width of the networks that decides how many threads update them."""
        return self.hidden_units

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that results depend on, besides those of all tasks."""
        return ()

    @property
    def stored_transitions(self) -> int:
        """Transitions that a replay buffer has room for: at most those of the whole run."""
        return min(self.replay_capacity, self.steps)

    @property
    def first_session(self) -> int:
        """Environment step of the first label session."""
        return self.random_steps + self.exploration_steps

    @property
    def human(self) -> bool:
        """Whether a person is the teacher."""
        return self.teacher == HUMAN

    def session_at(self, step: int) -> bool:
        """Whether a label session is due at an environment step, if labels are left."""
        return is_due(step, self.first_session, self.session_every)

    @property
    def labels_in_reach(self) -> int:
        """Labels that a run of this length can collect."""
        sessions = max(0, 1 + (self.steps - self.first_session) // self.session_every)
        return min(self.labels, sessions * self.labels_per_session)

    def __post_init__(self) -> None:
        """Checks conditions that involve several keys."""
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
                "or the replay buffer might hold no complete segment",
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
                "backend",
                self.backend != "envpool" or not self.human,
                "gymnasium: EnvPool's states cannot be drawn for a person (teacher 'human')",
            ),
            (
                "goal_visible",
                self.goal_visible or self.id.startswith(META_WORLD),
                "true: only Meta-World can hide a goal",
            ),
        ]
        demand(self, conditions)
