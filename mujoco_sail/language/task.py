"""Text task: keys of the recipes in `envs/language/`, besides those of every task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from mujoco_sail.agents.sources import of_files
from mujoco_sail.recipes.settings import demand, setting
from mujoco_sail.recipes.task import MOST, MOST_LAYERS, Task
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import home_expanded


@dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """Task whose observation is a prompt and whose action is a completion, both of token ids.

    `hidden_units` and `hidden_layers` are the width and the blocks of the generated model,
    `batch_size` is that of its fine-tuning, and `learning_rate` that of the alignment. One step is
    one completion; a session compares `labels_per_session` pairs of completions.
    """

    rule: Literal["vowels", "echo", "reverse"] = setting()  # hidden reward, see `language.text`
    prompt_tokens: int = setting(low=1, high=MOST)  # longest prompt
    completion_tokens: int = setting(low=1, high=MOST)  # longest completion
    model: str = setting()  # folder of a causal model and its tokenizer; empty for a generated one
    prompts: str = setting()  # file of lines {"prompt": "a b c d"}; empty for generated prompts
    judge: str = setting()  # folder of a sequence classifier with one label; empty for the rule
    trained_layers: int = setting(low=0, high=MOST_LAYERS)  # last blocks that are trained; 0: all

    # --- the generated model and the corpus on which it is fine-tuned ---
    heads: int = setting(low=1, high=MOST)  # attention heads
    corpus_texts: int = setting(low=1)
    corpus_epochs: int = setting(low=1)
    corpus_learning_rate: float = setting(above=0)

    @property
    @override
    def arguments(self) -> dict[str, Any]:
        return {"task": self}

    @property
    def files(self) -> list[Path]:
        """Files of the user: those of the model, of the judge, and the prompts."""
        places = (home_expanded(place) for place in (self.model, self.judge, self.prompts) if place)
        files = (file for place in places for file in (place, *sorted(place.glob("*"))))
        return [file for file in files if file.is_file()]

    @property
    @override
    def source(self) -> str | None:
        return of_files(self.files)

    @property
    @override
    def width(self) -> int:
        return 0  # one thread: with two, gradients of a transformer differ in the last bits

    @property
    @override
    def packages(self) -> tuple[str, ...]:
        return ("transformers",)

    def __post_init__(self) -> None:
        """Checks conditions that involve several keys."""
        super().__post_init__()
        compared = 2 * self.labels_per_session
        conditions = [
            ("episode_steps", self.episode_steps == 1, "1: a completion is one action"),
            ("teacher", not self.human, "a synthetic teacher: the page shows clips, not texts"),
            ("heads", self.hidden_units % self.heads == 0, f"a divisor of {self.hidden_units}"),
            ("session_every", self.session_every >= compared, f"at least {compared}"),
        ]
        demand(self, conditions)

    def load(self, key: str, kind: Any, **options: Any) -> Any:
        """Loads an object of a class of transformers from the folder that a key names.

        Raises:
            UserError: It is not there; nothing is looked for in the network.
        """
        folder = str(home_expanded(getattr(self, key)))
        try:
            return kind.from_pretrained(folder, local_files_only=True, **options)
        except Exception as error:  # the library raises many types
            raise self.no_model(key, error) from error

    def load_model(self, key: str, kind: Any, **options: Any) -> Any:
        """Loads a model; one without all its weights is refused: they would be random."""
        model, about = self.load(key, kind, output_loading_info=True, **options)
        if lacking := sorted(about["missing_keys"]):
            raise self.no_model(key, f"its files lack {lacking[0]}")
        return model

    def no_model(self, key: str, reason: object) -> UserError:
        """Error for a folder that is no model, with the first line of the reason."""
        lines = str(reason).strip().splitlines() or [type(reason).__name__]
        return self.error(key, f"no model there: {lines[0]}")

    def error(self, key: str, reason: str) -> UserError:
        """Error in the value of a key."""
        return UserError(f"{self.name}: key '{key}' is '{getattr(self, key)}'; {reason}")
