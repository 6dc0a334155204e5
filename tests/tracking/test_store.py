from __future__ import annotations

from pathlib import Path

import pytest

from medgan.errors import MedganError
from medgan.tracking import store as places


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_runs_are_written_beside_their_folders_unless_a_server_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places.writing_uri(tmp_path) == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert places.writing_uri(tmp_path) == "http://tracking.example:5000"


def test_a_store_is_found_by_folder_run_folder_file_or_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "runs"
    (store / "one").mkdir(parents=True)
    (store / "mlflow.db").touch()
    expected = f"sqlite:///{store.resolve()}/mlflow.db"
    for place in (store, str(store), store / "one", store / "mlflow.db"):
        assert places.reading_uri(place) == expected
    monkeypatch.chdir(tmp_path)
    assert places.reading_uri(None) == expected
    monkeypatch.chdir(store)
    assert places.reading_uri(None) == expected


def test_a_named_store_goes_before_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    (tmp_path / "mlflow.db").touch()
    assert places.reading_uri(tmp_path).startswith("sqlite:///")
    assert places.reading_uri("https://other.example") == "https://other.example"
    assert places.reading_uri(None) == "http://tracking.example"


def test_a_missing_store_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MedganError, match="MLFLOW_TRACKING_URI") as caught:
        places.reading_uri(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)
    with pytest.raises(MedganError, match="no tracked runs"):
        places.reading_uri(None)


def test_artifacts_lie_beside_the_database_and_servers_choose_themselves(tmp_path: Path) -> None:
    uri = places.sqlite_uri(tmp_path / "with space" / "mlflow.db")
    root = places.artifact_root(uri)
    assert root == (tmp_path.resolve() / "with space" / "mlruns").as_uri()
    assert places.artifact_root("http://tracking.example") is None


def test_passwords_are_not_shown() -> None:
    assert places.shown("https://anna:secret@tracking.example:5000/x") == "https://***@tracking.example:5000/x"
    assert places.shown("sqlite:////data/runs/mlflow.db") == "/data/runs/mlflow.db"


def test_a_question_mark_cannot_be_carried_by_the_uri(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match=r"'\?'"):
        places.sqlite_uri(tmp_path / "why?" / "mlflow.db")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("training.lr", "training.lr"),
        ("loss/generator", "loss/generator"),
        ("channels[0]", "channels_0_"),
        ("/a//b/../c/", "a/b/c"),
        ("a:b=c%", "a_b_c_"),
        ("", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_become_what_stores_take(name: str, expected: str) -> None:
    assert places.entity_name(name) == expected


def test_params_become_text_cut_at_the_limit() -> None:
    params = {"a": None, "b": [1, 2.5], "c": {"k": Path("x")}, "d": True, "long": "y" * 6001, "fits": "y" * 6000}
    texts = places.params_text(params)
    assert (texts["a"], texts["b"], texts["c"], texts["d"]) == ("None", "[1, 2.5]", '{"k": "x"}', "True")
    assert texts["long"] == "y" * 5999 + "…"
    assert texts["fits"] == "y" * 6000
