"""The loop, on an objective small enough to be followed by hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from medgan.errors import MedganError
from medgan.recipe import TrainingOptions
from medgan.training.average import frozen_copy, update_average
from medgan.training.checkpoint import load_checkpoint, refuse_other_recipe, save_checkpoint
from medgan.training.phases import Moment, Phase
from medgan.training.trainer import Tick, Trainer

CPU = torch.device("cpu")


class _Batches:
    """Batch k is filled with noise that depends on k alone."""

    def stream(self, position: int) -> Iterator[Tensor]:
        while True:
            yield torch.randn(4, 1, 2, 2, 2, generator=torch.Generator().manual_seed(position))
            position += 1


class _Toy:
    """Two little networks that are trained in turn, with noise from the global generator."""

    averaged = "first"

    def __init__(self, images: int = 80, *, repeats: int = 1, every: int = 1, poison_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.images = images
        self.first, self.second = nn.Linear(8, 3), nn.Linear(8, 3)
        self.poison_at = poison_at
        self.seen: list[tuple[str, int, bool, bool]] = []
        self._phases = (
            Phase(
                "second", self.second, Adam(self.second.parameters(), lr=0.1), self._second, self._tune, repeats=repeats
            ),
            Phase("first", self.first, Adam(self.first.parameters(), lr=0.1), self._first, self._tune, every=every),
        )

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"first": self.first, "second": self.second}

    @property
    def phases(self) -> Sequence[Phase]:
        return self._phases

    def half_life(self, moment: Moment) -> float:
        return 8.0

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        pass

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    def _tune(self, optimizer: Optimizer, moment: Moment) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - moment.progress)

    def _loss(self, name: str, network: nn.Module, volumes: Tensor, moment: Moment) -> Tensor:
        self.seen.append((name, moment.step, self.first.weight.requires_grad, self.second.weight.requires_grad))
        loss = (network(volumes.flatten(1)) - torch.randn(4, 3)).square().mean()
        return loss * float("nan") if moment.step == self.poison_at else loss

    def _first(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss("first", self.first, volumes, moment), {}

    def _second(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss("second", self.second, volumes, moment), {"mean": volumes.mean()}


def _trainer(folder: Path, objective: _Toy, **options: Any) -> Trainer:
    settings = TrainingOptions(batch_size=4, tick_steps=5, mode="exact", **options)
    return Trainer(objective, _Batches(), settings, device=CPU, checkpoints=folder / "checkpoints")


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    networks = {**trainer.objective.networks, "average": trainer.average}
    return {f"{key}.{name}": value for key, net in networks.items() for name, value in net.state_dict().items()}


def test_each_phase_trains_its_own_network_alone(tmp_path: Path) -> None:
    objective = _Toy(images=8)
    _trainer(tmp_path, objective).run()
    assert objective.seen == [
        ("second", 0, False, True),
        ("first", 0, True, False),
        ("second", 1, False, True),
        ("first", 1, True, False),
    ]


def test_repeats_take_a_batch_each_and_intervals_skip(tmp_path: Path) -> None:
    objective = _Toy(images=32, repeats=2, every=2)
    trainer = _trainer(tmp_path, objective)
    trainer.run()
    names = [(name, step) for name, step, *_ in objective.seen]
    assert names == [
        *[("second", 0)] * 2, ("first", 0), *[("second", 1)] * 2,
        *[("second", 2)] * 2, ("first", 2), *[("second", 3)] * 2,
    ]  # fmt: skip
    assert (trainer.step, trainer.position, trainer.images) == (4, 8, 32)


@pytest.mark.parametrize("stop", [1, 7, 10])
def test_stopping_and_resuming_equals_never_stopping(tmp_path: Path, stop: int) -> None:
    straight = _trainer(tmp_path / "straight", _Toy())
    straight.run()
    _trainer(tmp_path / "broken", _Toy()).run(stop_after=stop)
    torch.manual_seed(123)
    resumed = _trainer(tmp_path / "broken", _Toy())
    resumed.resume()
    assert resumed.step == stop
    result = resumed.run()
    assert result.finished
    assert resumed.step == straight.step == 20
    for name, value in _weights(straight).items():
        assert torch.equal(value, _weights(resumed)[name]), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    trainer = _trainer(tmp_path, _Toy())
    before = signal.getsignal(number)

    def strike(tick: Tick) -> None:
        if tick.moment.step == 5:
            os.kill(os.getpid(), number)

    trainer.on_tick.append(strike)
    result = trainer.run()
    assert (result.finished, result.signal, result.moment.step) == (False, number.name, 5)
    assert load_checkpoint(tmp_path / "checkpoints")["step"] == 5
    assert signal.getsignal(number) is before


def test_not_a_number_stops_the_training_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, _Toy(poison_at=7))
    with pytest.raises(MedganError, match=r"stopped at step 10.*(first|second)/loss.*step-00000005.pt"):
        trainer.run()
    state = load_checkpoint(tmp_path / "checkpoints")
    assert state["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["average"].values())


def test_long_gradients_are_cut_to_the_limit(tmp_path: Path) -> None:
    limited = _trainer(tmp_path, _Toy(images=4), gradient_clip=1e-3)
    limited.run()
    norm = sum(p.grad.square().sum() for p in limited.objective.networks["first"].parameters() if p.grad is not None)
    assert float(norm) ** 0.5 == pytest.approx(1e-3, rel=1e-3)
    assert limited.history["first/gradient_norm"][0][1] > 1e-3


def test_metrics_are_means_over_a_tick(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, _Toy(images=40))
    trainer.run()
    expected = [
        torch.stack([next(_Batches().stream(k)).mean() for k in ks]).mean().item() for ks in (range(5), range(5, 10))
    ]
    assert [value for _, value in trainer.history["second/mean"]] == pytest.approx(expected, abs=1e-6)
    assert [step for step, _ in trainer.history["second/mean"]] == [5, 10]


def test_average_has_the_half_life_it_says() -> None:
    network = nn.Linear(2, 2)
    average = frozen_copy(network)
    start = average.weight.clone()
    with torch.no_grad():
        network.weight += 1
    for _ in range(4):
        update_average(average, network, images=25, half_life=100)
    torch.testing.assert_close(average.weight, start + 0.5)
    update_average(average, network, images=1, half_life=0)
    torch.testing.assert_close(average.weight, network.weight.detach())


def test_only_the_newest_checkpoints_are_kept_and_hold_no_code(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002.pt", "step-00000003.pt"]
    torch.save({"format": 1, "optimizer": SGD([nn.Parameter(torch.zeros(1))], lr=1)}, tmp_path / "step-00000004.pt")
    with pytest.raises(MedganError, match=r"damaged.*step-00000003.pt"):
        load_checkpoint(tmp_path)


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, {"step": 1, "weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MedganError, match=r"step-00000001.pt: the checkpoint is damaged"):
        load_checkpoint(tmp_path)
    with pytest.raises(MedganError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "nowhere")


def test_another_recipe_is_refused_by_field() -> None:
    with pytest.raises(MedganError, match=r"training.batch_size was 4, is now 8"):
        refuse_other_recipe({"training.batch_size": 4, "x": 1}, {"training.batch_size": 8, "x": 1}, file=Path("run"))


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    _trainer(tmp_path, _Toy()).run(stop_after=2)
    other = _Toy()
    other.first = nn.Linear(8, 5)
    with pytest.raises(MedganError, match="does not fit this recipe and cohort"):
        _trainer(tmp_path, other).resume()
