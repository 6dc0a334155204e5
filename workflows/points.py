"""What users may call a point of a generator's space, and files with points and directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medgan.inference.directions import Directions
    from medgan.inference.model import Model
    from medgan.inference.points import Point
    from medgan.labels import LabelValues

POINT_FORMAT, DIRECTIONS_FORMAT = "medgan point 1", "medgan directions 1"


@dataclass(frozen=True, eq=False)
class Sampling:
    """What numbers of samples mean in one call."""

    model: Model
    network: nn.Module
    seed: int
    truncation: float = 1.0
    labels: LabelValues = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """What `point_of_sample` takes beside the network and the index."""
        return {"seed": self.seed, "truncation": self.truncation, "asked": self.labels}


@dataclass(frozen=True, eq=False)
class End:
    """A point that a user named.

    Args:
        point: where.
        name: in words that hold nothing of a file's name.
        index: of the sample; None for a projected scan.
        labels: of the sample, of a model that is told labels.
    """

    point: Point
    name: str
    index: int | None
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_projected(self) -> bool:
        """Whether it stands for a real scan."""
        return self.index is None


def end_named(text: str, sampling: Sampling, option: str) -> End:
    """The sample whose index `text` is, or the point in the file of this name.

    Raises:
        MedganError: it is neither, or the file belongs to another model.
    """
    if text.isdecimal():
        return sample_end(sampling, int(text))
    path = Path(text)
    if not path.is_file():
        raise MedganError(
            f"{option} is '{text}', which is neither the index of a sample nor a file",
            hint="Samples are counted from 0; `medgan project` writes files of points.",
        )
    content = _content(path, POINT_FORMAT, sampling.model)
    point = _parsed(path, content)
    return End(_on(point, sampling.model.device), f"projection {_short_digest(path)}", None)


def sample_end(sampling: Sampling, index: int) -> End:
    """Sample `index`."""
    from medgan.inference.points import point_of_sample
    from medgan.networks.labelled import labels_of_sample

    point = point_of_sample(sampling.network, **sampling.options, index=index)
    labels = labels_of_sample(sampling.network, sampling.labels, seed=sampling.seed, index=index)
    return End(point, f"sample {index}", index, labels)


def load_directions(path: Path | None, sampling: Sampling) -> tuple[Directions, str]:
    """Directions from a file, on the CPU, and the SHA-256 of the file.

    Raises:
        MedganError: there is no such file, it is none of directions, or it belongs to another model.
    """
    from medgan.files import require_existing, sha256_of
    from medgan.inference.directions import Directions

    path = require_existing(path or "")
    content = _content(path, DIRECTIONS_FORMAT, sampling.model)
    try:
        return Directions.from_json(content), sha256_of(path)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def write_point(path: Path, point: Point, model: Model, also: Mapping[str, Any]) -> None:
    """Write a point of a model's space."""
    from medgan.files import write_json

    write_json(path, {"format": POINT_FORMAT, "model_sha256": model.sha256, **also, **point.to_json()})


def write_directions(path: Path, directions: Directions, model: Model) -> None:
    """Write directions of variation of a model."""
    from medgan.files import write_json

    write_json(path, {"format": DIRECTIONS_FORMAT, "model_sha256": model.sha256, **directions.to_json()})


def require_smooth(network: nn.Module, model: Model) -> None:
    """Refuse a network whose samples do not change gradually with the latent vector.

    Raises:
        MedganError: it draws codes one after the other.
    """
    if getattr(network, "truncates_codes", False):
        raise MedganError(
            f"samples of {model.config['network']['name']} networks jump from one to the next when the latent vector "
            "changes: there is no way between them, and no direction",
            file=model.folder,
            hint="Use a model of another network.kind.",
        )


def _content(path: Path, wanted: str, model: Model) -> dict[str, Any]:
    from medgan.files import read_json

    content = read_json(path)
    found = content.get("format") if isinstance(content, dict) else None
    kind = wanted.split()[1]
    if found != wanted:
        verb = "project" if wanted == POINT_FORMAT else "explore"
        raise MedganError(f"this is no file of {kind}", file=path, hint=f"`medgan {verb}` writes them.")
    if content.get("model_sha256") != model.sha256:
        what = "these directions belong" if wanted == DIRECTIONS_FORMAT else "this point belongs"
        raise MedganError(
            f"{what} to another model (weights {str(content.get('model_sha256'))[:12]}, not {model.sha256[:12]})",
            file=path,
            hint="Make it again with this model.",
        )
    return dict(content)


def _parsed(path: Path, content: Mapping[str, Any]) -> Point:
    from medgan.inference.points import Point

    try:
        return Point.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> MedganError:
    return MedganError(f"the file is damaged ({type(error).__name__}: {error})", file=path, hint="Make it again.")


def _short_digest(path: Path) -> str:
    from medgan.files import sha256_of

    return sha256_of(path)[:8]


def _on(point: Point, device: Any) -> Point:
    from dataclasses import replace

    def there(one: Tensor | None) -> Tensor | None:
        return None if one is None else one.to(device)

    return replace(point, position=point.position.to(device), labels=there(point.labels))
