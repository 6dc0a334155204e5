from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.data.cohort import Cohort
from medgan.data.patches import Batch, Patches, WholeVolumes, prefetched
from medgan.data.prepare import prepare
from medgan.errors import MedganError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    import nibabel as nib

    folder = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    for number in range(7):
        data = rng.normal(size=(20, 18, 16)) + number
        data[13:17, 3:7, 8:12] += 60 * rng.random((4, 4, 4))
        nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), folder / f"s{number}.nii")
    return prepare([folder], folder / "cohort", split=(1, 0, 0)).cohort


def names(batches: list[Batch]) -> list[str]:
    return [record.name for batch in batches for record in batch.records]


def test_every_scan_once_per_epoch_though_batches_straddle(cohort: Cohort) -> None:
    source = WholeVolumes(cohort, "train", batch_size=3, seed=0)
    drawn = names([source.batch(step) for step in range(7)])
    epochs = [drawn[first : first + 7] for first in (0, 7, 14)]
    for epoch in epochs:
        assert sorted(epoch) == [f"s{number}" for number in range(7)]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_is_a_function_of_seed_and_step(cohort: Cohort, flip: bool) -> None:
    def sources(seed: int) -> list[WholeVolumes | Patches]:
        return [
            WholeVolumes(cohort, "train", batch_size=2, seed=seed, flip=flip),
            Patches(cohort, "train", patch_shape=(8, 7, 6), batch_size=2, seed=seed, flip=flip),
        ]

    for first, second, other in zip(sources(5), sources(5), sources(6), strict=True):
        [first.batch(step) for step in range(4)]  # a history that must not matter
        here, there = first.batch(9), second.batch(9)
        assert torch.equal(here.voxels, there.voxels)
        assert (here.starts, here.flips, here.step) == (there.starts, there.flips, 9)
        assert not all(torch.equal(first.batch(step).voxels, other.batch(step).voxels) for step in range(3))


def test_whole_volumes_are_the_normalised_voxels(cohort: Cohort) -> None:
    batch = WholeVolumes(cohort, "train", batch_size=4, seed=0, flip=True).batch(3)
    assert batch.voxels.shape == (4, 1, 20, 18, 16)
    assert batch.voxels.dtype == torch.float32
    for item, record, flips in zip(batch.voxels, batch.records, batch.flips, strict=True):
        voxels = cohort.voxels(record)
        low, high = np.percentile(voxels, [0.5, 99.5])
        expected = (voxels - low) / (high - low)
        np.testing.assert_allclose(item[0], expected[::-1] if flips[0] else expected, atol=1e-5)
        assert flips[1:] == (False, False)


def test_both_flips_occur_and_none_without(cohort: Cohort) -> None:
    flipped = WholeVolumes(cohort, "train", batch_size=40, seed=0, flip=True).batch(0).flips
    assert 8 < sum(flips[0] for flips in flipped) < 32
    patches = Patches(cohort, "train", patch_shape=(4, 4, 4), batch_size=40, seed=0, flip=True).batch(0).flips
    assert all(8 < sum(flips[axis] for flips in patches) < 32 for axis in range(3))
    plain = Patches(cohort, "train", patch_shape=(4, 4, 4), batch_size=8, seed=0).batch(0)
    assert set(plain.flips) == {(False, False, False)}


def test_patches_are_where_they_say(cohort: Cohort) -> None:
    source = Patches(cohort, "train", patch_shape=(8, 7, 6), batch_size=30, seed=0, margin=2, flip=True)
    batch = source.batch(0)
    assert batch.voxels.shape == (30, 1, 8, 7, 6)
    for item, record, start, flips in zip(batch.voxels, batch.records, batch.starts, batch.flips, strict=True):
        for first, want, have in zip(start, (8, 7, 6), (20, 18, 16), strict=True):
            assert 2 <= first <= have - want - 2
        window = tuple(slice(first, first + want) for first, want in zip(start, (8, 7, 6), strict=True))
        low, high = record.percentiles["0.5"], record.percentiles["99.5"]
        expected = (cohort.voxels(record)[window] - low) / (high - low)
        expected = np.flip(expected, [axis for axis in range(3) if flips[axis]])
        np.testing.assert_allclose(item[0], expected, atol=1e-5)


def test_a_margin_gives_way_in_a_small_scan(cohort: Cohort) -> None:
    batch = Patches(cohort, "train", patch_shape=(17, 18, 6), batch_size=20, seed=0, margin=5).batch(0)
    assert {start[0] for start in batch.starts} <= {1, 2}
    assert {start[1] for start in batch.starts} == {0}
    assert {start[2] for start in batch.starts} <= {5}


def test_patches_follow_the_gradient_for_three_quarters(cohort: Cohort) -> None:
    """A patch of one voxel shows where centres fall: here, how often in the box around the textured cube."""
    box = (slice(12, 18), slice(2, 8), slice(7, 13))
    shares = []
    for record in cohort.records:
        detail = np.linalg.norm(np.gradient(np.asarray(cohort.voxels(record), dtype=np.float64)), axis=0)
        shares.append(0.75 * detail[box].sum() / detail.sum() + 0.25 * detail[box].size / detail.size)
    source = Patches(cohort, "train", patch_shape=(1, 1, 1), batch_size=70, seed=0)
    starts = [start for step in range(40) for start in source.batch(step).starts]
    inside = [all(part.start <= at < part.stop for part, at in zip(box, start, strict=True)) for start in starts]
    assert np.mean(inside) == pytest.approx(np.mean(shares), abs=0.03)
    assert np.mean(shares) > 0.15
    octants = Counter((x < 10, y < 9, z < 8) for x, y, z in starts)
    assert min(octants.values()) > 0.25 / 8 * len(starts)


def test_scans_smaller_than_the_patch_are_mirrored(cohort: Cohort) -> None:
    batch = Patches(cohort, "train", patch_shape=(6, 23, 40), batch_size=2, seed=0).batch(0)
    assert batch.voxels.shape == (2, 1, 6, 23, 40)
    for item, record, start in zip(batch.voxels, batch.records, batch.starts, strict=True):
        assert start[1:] == (-2, -12)
        voxels = np.asarray(cohort.voxels(record))[start[0] : start[0] + 6]
        low, high = record.percentiles["0.5"], record.percentiles["99.5"]
        padded = np.concatenate([voxels[:, 1::-1], voxels, voxels[:, :-4:-1]], axis=1)
        padded = np.concatenate([padded[..., 11::-1], padded, padded[..., :-13:-1]], axis=2)
        np.testing.assert_allclose(item[0], (padded - low) / (high - low), atol=1e-5)


def test_a_flat_scan_is_sampled_evenly(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    data = np.zeros((8, 8, 8))
    data[4:] = 1
    write_scan(tmp_path / "in" / "a.nii", data=data)
    one = prepare([tmp_path / "in"], tmp_path / "cohort", split=(1, 0, 0)).cohort
    np.save(one.folder / one.records[0].voxels, np.ones((8, 8, 8), dtype=np.float32))
    starts = Patches(one, "train", patch_shape=(1, 1, 1), batch_size=600, seed=0).batch(0).starts
    counts = Counter(start[0] for start in starts)
    assert len(counts) == 8
    assert max(counts.values()) < 120


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_prefetching_changes_nothing(cohort: Cohort, workers: int) -> None:
    source = Patches(cohort, "train", patch_shape=(8, 8, 8), batch_size=2, seed=0)
    stream = prefetched(source, 4, workers)
    for step, batch in zip(range(4, 12), stream, strict=False):
        assert batch.step == step
        assert torch.equal(batch.voxels, source.batch(step).voxels)
    stream.close()  # type: ignore[attr-defined]


def test_closing_the_stream_ends_its_threads(cohort: Cohort) -> None:
    others = set(threading.enumerate())
    stream = prefetched(WholeVolumes(cohort, "train", batch_size=1, seed=0), 0, 2)
    next(stream)
    started = [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("medgan-batches")]
    assert started
    stream.close()  # type: ignore[attr-defined]
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_batches_are_made_ahead_but_not_without_bound() -> None:
    made: list[int] = []
    ahead = threading.Event()

    class Source:
        def batch(self, step: int) -> Batch:
            made.append(step)
            if step == 3:
                ahead.set()
            return Batch(step, torch.zeros(1), (), (), (), ())

    stream = prefetched(Source(), 0, 2)
    next(stream)
    assert ahead.wait(timeout=10)
    assert max(made) <= 4
    stream.close()  # type: ignore[attr-defined]


def test_an_error_arrives_when_its_batch_is_due(cohort: Cohort) -> None:
    class Source:
        def batch(self, step: int) -> Batch:
            if step == 2:
                raise MedganError("broken voxels")
            return Batch(step, torch.zeros(1), (), (), (), ())

    stream = prefetched(Source(), 0, 2)
    assert [batch.step for batch in itertools.islice(stream, 2)] == [0, 1]
    with pytest.raises(MedganError, match="broken voxels"):
        next(stream)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "no scan in its split 'test'"),
        ({"split": "tets"}, "no split 'tets'"),
        ({"batch_size": 0}, "batch size"),
        ({"seed": -1}, "seed"),
        ({"patch_shape": (0, 4, 4)}, "three positive whole numbers"),
        ({"margin": -1}, "margin"),
    ],
)
def test_wrong_arguments(cohort: Cohort, arguments: dict, message: str) -> None:
    usual = {"split": "train", "patch_shape": (4, 4, 4), "batch_size": 2, "seed": 0}
    with pytest.raises(MedganError, match=message):
        Patches(cohort, **{**usual, **arguments})


def test_a_negative_step_is_refused(cohort: Cohort) -> None:
    with pytest.raises(MedganError, match="step"):
        WholeVolumes(cohort, "train", batch_size=1, seed=0).batch(-1)


def test_turned_patches_are_the_scan_seen_along_other_axes(cohort: Cohort) -> None:
    source = Patches(cohort, "train", patch_shape=(6, 7, 8), batch_size=4, seed=1, flip=True, transpose=True)
    orders = set()
    for step in range(12):
        batch = source.batch(step)
        assert batch.voxels.shape == (4, 1, 6, 7, 8)
        for item, (record, start, flips, order) in enumerate(
            zip(batch.records, batch.starts, batch.flips, batch.orders, strict=True)
        ):
            orders.add(order)
            sizes = [(6, 7, 8)[order.index(axis)] for axis in range(3)]
            window = tuple(slice(first, first + size) for first, size in zip(start, sizes, strict=True))
            cut = np.array(cohort.voxels(record)[window]).transpose(order)
            cut = np.flip(cut, [axis for axis in range(3) if flips[axis]])
            low, high = record.percentiles["0.5"], record.percentiles["99.5"]
            expected = np.clip((cut - low) / (high - low), -1, 4)
            np.testing.assert_allclose(batch.voxels[item, 0], expected, atol=1e-5)
    assert len(orders) > 3


def test_the_last_axis_of_turned_patches_is_a_sharp_one(tmp_path: Path) -> None:
    import nibabel as nib
    from scipy.ndimage import gaussian_filter1d

    rng = np.random.default_rng(0)
    for number in range(3):
        soft = gaussian_filter1d(rng.normal(size=(30, 30, 30)), 2.0, axis=1) * 100
        nib.save(nib.Nifti1Image(soft.astype(np.float32), np.eye(4)), tmp_path / f"s{number}.nii")
    cohort = prepare([tmp_path], tmp_path / "cohort", split=(1, 0, 0)).cohort
    source = Patches(cohort, "train", patch_shape=(8, 8, 8), batch_size=8, seed=0, transpose=True)
    last = {order[2] for step in range(6) for order in source.batch(step).orders}
    assert last == {0, 2}


def test_scans_are_drawn_by_how_much_detail_they_hold(tmp_path: Path) -> None:
    """Twice the voxels, twice as often; voxels of 2 mm an eighth as often as those of 1 mm."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    for name, shape, step in (("a", (20, 20, 20), 1.0), ("b", (40, 20, 20), 1.0), ("c", (20, 20, 20), 2.0)):
        image = nib.Nifti1Image(rng.normal(size=shape).astype(np.float32), np.diag([step, step, step, 1.0]))
        nib.save(image, tmp_path / f"{name}.nii")
    cohort = prepare([tmp_path], tmp_path / "cohort", own_grids=True, split=(1, 0, 0)).cohort
    source = Patches(cohort, "train", patch_shape=(8, 8, 8), batch_size=20, seed=0, by_detail=True)
    drawn = Counter(names([source.batch(step) for step in range(60)]))
    total = 1 + 2 + 1 / 8
    assert drawn["a"] / 1200 == pytest.approx(1 / total, abs=0.05)
    assert drawn["b"] / 1200 == pytest.approx(2 / total, abs=0.05)
    assert drawn["c"] / 1200 == pytest.approx(1 / 8 / total, abs=0.03)


def test_a_share_of_the_patches_changes_its_contrast(cohort: Cohort) -> None:
    plain = Patches(cohort, "train", patch_shape=(8, 8, 8), batch_size=50, seed=0).batch(0).voxels
    shown = Patches(cohort, "train", patch_shape=(8, 8, 8), batch_size=50, seed=0, contrast=0.4).batch(0).voxels
    changed = (plain != shown).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.4, abs=0.2)
