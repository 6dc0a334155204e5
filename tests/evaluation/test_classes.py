from __future__ import annotations

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.evaluation import evaluate_synthesis
from medgan.evaluation.classes import class_distances, class_probabilities, inception_score
from medgan.evaluation.fidelity import kid, real_floor


def test_score_of_sure_and_even_answers_is_the_number_of_classes() -> None:
    assert inception_score(np.eye(5)[np.arange(50) % 5]).value == pytest.approx(5)


def test_score_is_one_where_nothing_is_told_apart() -> None:
    assert inception_score(np.full((20, 4), 0.25)).value == pytest.approx(1)
    assert inception_score(np.eye(4)[np.zeros(20, int)]).value == pytest.approx(1)


def test_score_by_the_published_formula() -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(3), 40)
    mean = p.mean(0)
    divergences = [sum(q * np.log(q / m) for q, m in zip(row, mean, strict=True)) for row in p]
    found = inception_score(p)
    assert found.value == pytest.approx(np.exp(np.mean(divergences)), rel=1e-12)
    assert found.low <= found.value <= found.high
    fewer = inception_score(p, size=10)
    assert fewer.value < found.value


def test_every_class_is_measured_alone() -> None:
    random = np.random.default_rng(1)
    real, synthetic = random.normal(size=(20, 4)), random.normal(size=(16, 4))
    labels = ["b", "a"] * 10, ["a"] * 13 + ["b"] * 3
    a, b = class_distances(real, synthetic, labels)
    assert (a.name, a.real, a.synthetic) == ("a", 10, 13)
    assert a.kid == kid(real[1::2], synthetic[:13])
    assert a.kid_floor == real_floor(real[1::2])
    assert (b.name, b.synthetic, b.kid) == ("b", 3, None)


def test_labels_for_every_scan() -> None:
    with pytest.raises(MedganError, match="3 labels for 4 real scans"):
        class_distances(np.zeros((4, 2)), np.zeros((4, 2)), (["a"] * 3, ["a"] * 4))


@pytest.mark.parametrize("answer", [[0.5, 0.6], [1.0], [-0.5, 1.5], [np.nan, 1.0], [[0.5, 0.5]]])
def test_answers_that_are_no_probabilities(answer: list[float]) -> None:
    with pytest.raises(MedganError, match="are no probabilities"):
        class_probabilities(lambda volume: answer, [np.zeros((8, 8, 8))])


def test_on_the_card(heads: list[np.ndarray]) -> None:
    """A classifier of brightness on scans of two brightnesses, of which the synthetic set lacks one."""
    real = [head * (0.5 + 0.5 * (k % 2)) for k, head in enumerate(heads[:16])]
    made = [head * 0.5 for head in heads[16:26]]

    def sure(volume: np.ndarray) -> list[float]:
        bright = 1 / (1 + np.exp(-50 * (np.quantile(volume, 0.99) - 0.65)))
        return [1 - bright, bright]

    figures = evaluate_synthesis(real, made, classifier=sure).classes
    assert figures is not None
    assert figures.source == "classifier"
    assert [(one.name, one.real, one.synthetic) for one in figures.distances] == [("class 0", 8, 10), ("class 1", 8, 0)]
    assert figures.inception_score is not None
    assert figures.real_inception_score is not None
    assert figures.inception_score.value < 1.1 < 1.8 < figures.real_inception_score.value
    labelled = evaluate_synthesis(real, made, labels=(["dark", "light"] * 8, ["dark"] * 10)).classes
    assert labelled is not None
    assert labelled.inception_score is None
    assert [one.synthetic for one in labelled.distances] == [10, 0]
