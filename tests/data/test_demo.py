from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data import anatomy, demo
from medgan.data.warps import jacobian_determinant, sampled
from medgan.errors import MedganError


def grown(index: int, **settled: object) -> anatomy.Anatomy:
    return anatomy.grown(anatomy.template(), np.random.default_rng([0, index]), **settled)


def tissue_volumes(one: anatomy.Anatomy) -> tuple[float, float]:
    """Millilitres of ventricular fluid and of grey matter, by pulling the template's tissue maps to the lattice."""
    common = anatomy.template()
    nodes = np.stack(np.meshgrid(*(4.0 * np.arange(n) for n in common.lattice), indexing="ij"))
    grey, _, fluid = sampled(common.maps[:3], nodes + one.displacement)
    x, y, z = nodes + np.array(common.origin)[:, None, None, None]
    deep = (np.abs(x) < 36) & (y > -50) & (y < 40) & (z > -4) & (z < 36)
    return float(fluid[deep].sum() * 0.064), float(grey.sum() * 0.064)


def test_a_subject_is_a_function_of_seed_and_index() -> None:
    one, labels = demo.virtual_subject(3, seed=1, spacing=4)
    again, same = demo.virtual_subject(3, seed=1, spacing=4)
    assert np.array_equal(one.data, again.data)
    assert labels == same
    for other in (demo.virtual_subject(4, seed=1, spacing=4), demo.virtual_subject(3, seed=2, spacing=4)):
        assert other[1] != labels
        assert np.abs(other[0].data.astype(float) - one.data).mean() > 20


def test_where_it_lies_and_what_it_holds() -> None:
    volume, labels = demo.virtual_subject(0)
    assert volume.shape == (99, 117, 95)
    assert volume.orientation == "RAS"
    assert volume.spacing == (2.0, 2.0, 2.0)
    assert volume.data.dtype == np.int16
    assert np.percentile(volume.data, 99) == pytest.approx(750, abs=150)
    assert volume.data.min() >= 0
    assert 20 <= labels["age"] <= 90
    assert labels["group"] in ("control", "patient")
    template = anatomy.template()
    brain = template.maps[:3].sum(axis=0)[::2, ::2, ::2] > 0.5
    mean = np.array([np.argwhere(mask).mean(axis=0) for mask in (volume.data[0] > 200, brain)])
    assert np.abs(mean[0] - mean[1]).max() < 4


def test_the_same_anatomy_at_any_spacing() -> None:
    fine, coarse = (demo.virtual_subject(5, spacing=spacing)[0] for spacing in (2.0, 4.0))
    np.testing.assert_allclose(coarse.affine[:3, 3], fine.affine[:3, 3])
    every_second = fine.data[0, ::2, ::2, ::2].astype(float)
    assert np.corrcoef(every_second.ravel(), coarse.data.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    ("index", "age", "patient"), [(0, 20.0, False), (1, 90.0, True), (2, 90.0, False), (3, 20.0, True)]
)
def test_nothing_folds(index: int, age: float, patient: bool) -> None:
    one = grown(index, age=age, patient=patient)
    assert jacobian_determinant(one.displacement / anatomy.LATTICE_STEP).min() > 0.1
    # Between the nodes too, where the map is interpolated.
    middle = [np.arange(40, n - 40, 2.0) for n in anatomy.template().shape]
    assert jacobian_determinant(demo.between_nodes(one.displacement, middle) / 2).min() > 0.05


@pytest.mark.parametrize("index", range(2))
def test_with_age_ventricles_grow_and_grey_matter_goes(index: int) -> None:
    volumes = [tissue_volumes(grown(index, age=age, patient=False)) for age in (20.0, 55.0, 90.0)]
    ventricles, grey = zip(*volumes, strict=True)
    assert ventricles[0] < 0.85 * ventricles[1] < 0.85**2 * ventricles[2]
    assert grey[0] > 1.03 * grey[1] > 1.03**2 * grey[2]


def test_age_is_visible_across_different_subjects() -> None:
    subjects = [grown(index) for index in range(10)]
    ventricles = [tissue_volumes(subject)[0] for subject in subjects]
    assert np.corrcoef([subject.age for subject in subjects], ventricles)[0, 1] > 0.7


def test_a_patient_carries_a_dark_mass_and_nothing_else_changes() -> None:
    scans = []
    for patient in (False, True):
        rng = np.random.default_rng([0, 8])
        one = anatomy.grown(anatomy.template(), rng, patient=patient)
        scans.append(demo.scanned(anatomy.template(), one, rng, 2.0).astype(float))
    assert one.mass is not None
    darker = scans[0] - scans[1] > 150
    assert darker.sum() * 0.008 > 0.5 * 4 / 3 * np.pi * (one.mass.radius / 10) ** 3
    spread = np.argwhere(darker) * 2.0
    distance = np.linalg.norm(spread - np.median(spread, axis=0), axis=1)
    assert np.median(distance) < 1.3 * one.mass.radius
    far = np.ones(darker.shape, dtype=bool)
    low = (np.median(spread, axis=0) / 2 - 25).clip(0).astype(int)
    far[tuple(slice(a, a + 50) for a in low)] = False
    assert np.abs(scans[0] - scans[1])[far].mean() < 5


def test_a_mass_pushes_its_surroundings_away() -> None:
    healthy, sick = (grown(8, patient=patient) for patient in (False, True))
    assert sick.mass is not None
    # From a node the template is found further inwards, because the tissue there came from nearer to the mass.
    inwards = sick.displacement - healthy.displacement
    nodes = np.stack(np.meshgrid(*(4.0 * np.arange(n) for n in inwards.shape[1:]), indexing="ij"))
    offset = nodes + healthy.displacement - sick.mass.centre[:, None, None, None]
    distance = np.linalg.norm(offset, axis=0)
    radial = (inwards * offset).sum(axis=0) / distance
    around = (distance > sick.mass.radius) & (distance < 1.8 * sick.mass.radius)
    assert radial[around].mean() < -1.0
    assert np.abs(inwards[:, distance > 60]).max() < 0.05


def test_a_written_cohort(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    folder = demo.write_demo_cohort(tmp_path / "demo", 2, spacing=4, progress=lambda *report: seen.append(report))
    assert sorted(path.name for path in folder.iterdir()) == [
        "participants.tsv",
        "sub-001_T1w.nii.gz",
        "sub-002_T1w.nii.gz",
    ]
    assert seen == [(1, 2, "sub-001"), (2, 2, "sub-002")]
    header, first, _ = (folder / "participants.tsv").read_text().splitlines()
    volume, labels = demo.virtual_subject(0, spacing=4)
    assert header == "participant_id\tage\tgroup"
    assert first == f"sub-001\t{labels['age']}\t{labels['group']}"
    image = nib.load(folder / "sub-001_T1w.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), volume.data[0])
    np.testing.assert_allclose(image.affine, volume.affine)
    with pytest.raises(MedganError, match="other subjects already"):
        demo.write_demo_cohort(folder, 1)


@pytest.mark.slow
def test_processes_change_nothing(tmp_path: Path) -> None:
    for jobs in (1, 2):
        demo.write_demo_cohort(tmp_path / str(jobs), 3, jobs=jobs)
    for file in sorted((tmp_path / "1").iterdir()):
        if file.suffix == ".gz":
            one, two = (np.asarray(nib.load(tmp_path / jobs / file.name).dataobj) for jobs in "12")
            assert np.array_equal(one, two)
        else:
            assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()


@pytest.mark.parametrize("arguments", [{"index": -1}, {"index": 0, "seed": -1}, {"index": 0, "spacing": 0.5}])
def test_impossible_subjects(arguments: dict) -> None:
    with pytest.raises(MedganError):
        demo.virtual_subject(**arguments)


def test_without_nilearn_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    anatomy.template.cache_clear()
    with pytest.raises(MedganError, match=r"pip install 'medgan\[demo\]'"):
        demo.virtual_subject(0)
