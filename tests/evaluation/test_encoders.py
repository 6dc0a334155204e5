"""Encoders by name, and any network as one."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import ResNet
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan.errors import MedganError
from medgan.evaluation.encoders import Encoder, encoder_named, encoder_names
from medgan.evaluation.features import RandomEncoder
from medgan.evaluation.network_encoder import NetworkEncoder, network_hash
from medgan.evaluation.planar_encoder import PlanarEncoder, chosen_slices, resnet50_encoder

Volumes = NDArray[np.float32]


@pytest.fixture
def volumes() -> Volumes:
    """Five volumes of 9 x 12 x 10 voxels."""
    return np.random.default_rng(0).random((5, 9, 12, 10)).astype(np.float32)


class Small(nn.Module):
    """Maps with batch normalisation whose running statistics are not those of any batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.norm.running_mean.fill_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def test_the_random_encoder_has_a_name_and_the_default_one_too(volumes: Volumes) -> None:
    assert np.array_equal(encoder_named("random").extract(volumes), RandomEncoder().extract(volumes))
    assert encoder_named("random").name == "random-conv3d-v1"
    assert encoder_named(None).name == encoder_named(encoder_names()[0]).name


def test_a_network_is_averaged_over_space_in_evaluation_mode_and_left_as_it_was(volumes: Volumes) -> None:
    network = small().train()
    found = NetworkEncoder(network).extract(volumes)
    assert network.training
    assert network.norm.training
    network.eval()
    with torch.no_grad():
        wanted = network(torch.from_numpy(volumes)[:, None]).mean(dim=(2, 3, 4))
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float64


def test_features_do_not_depend_on_batch_mates(volumes: Volumes) -> None:
    encoder = NetworkEncoder(small())
    together = encoder.extract(volumes, batch=5)
    alone = np.concatenate([encoder.extract([volume]) for volume in volumes])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2, track_running_stats=False))
    with pytest.raises(MedganError, match="normalises over the batch"):
        NetworkEncoder(network)


def test_names_tell_weights_and_structures_apart() -> None:
    assert NetworkEncoder(small(0)).name == NetworkEncoder(small(0)).name
    assert NetworkEncoder(small(0)).name.startswith("Small-")
    changed = small(0)
    with torch.no_grad():
        changed.conv.weight[0, 0, 0, 0, 0] += 1e-6
    assert NetworkEncoder(changed).name != NetworkEncoder(small(0)).name
    # Equal weights, another activation.
    one, other = (nn.Sequential(nn.Conv3d(1, 1, 1), act) for act in (nn.ReLU(), nn.GELU()))
    other.load_state_dict(one.state_dict())
    assert network_hash(one) != network_hash(other)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv3d(2, 1, 1), "cannot take"),
        (nn.Flatten(0), "returned"),
        (nn.Sequential(nn.Flatten(), nn.Threshold(2.0, float("nan"))), "not finite"),
    ],
)
def test_networks_that_give_no_features_are_refused(network: nn.Module, message: str, volumes: Volumes) -> None:
    with pytest.raises(MedganError, match=message):
        NetworkEncoder(network).extract(volumes)


def test_torchscript_files_of_volumes_and_of_slices(tmp_path: Path, volumes: Volumes) -> None:
    network = small().eval()
    torch.jit.script(network).save(str(tmp_path / "mine.pt"))
    encoder = encoder_named(str(tmp_path / "mine.pt"))
    assert encoder.name == encoder_named(f"volume:{tmp_path / 'mine.pt'}").name
    assert encoder.name.startswith("mine-")
    np.testing.assert_allclose(encoder.extract(volumes), NetworkEncoder(network).extract(volumes), rtol=1e-5)
    planes = nn.Conv2d(3, 2, 3).eval()
    torch.jit.script(planes).save(str(tmp_path / "planes.pt"))
    found = encoder_named(f"planar:{tmp_path / 'planes.pt'}").extract(volumes)
    np.testing.assert_allclose(found, PlanarEncoder(planes).extract(volumes), rtol=1e-5, atol=1e-7)


def test_a_module_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volumes: Volumes) -> None:
    source = "from torch import nn\ndef made():\n    return nn.AvgPool3d(2)\nnumber = 3\n"
    (tmp_path / "features_of_mine.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = encoder_named("features_of_mine:made").extract(volumes)
    assert found.shape == (5, 1)
    with pytest.raises(MedganError, match="is a int"):
        encoder_named("features_of_mine:number")
    with pytest.raises(MedganError, match="cannot be imported"):
        encoder_named("features_of_mine:absent")


@pytest.mark.parametrize("kind", ["medicalnet", "radimagenet", "imagenet", "planar", "volume"])
def test_a_missing_file_is_refused_with_where_to_get_it(kind: str, tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "absent.pth"), "https://example.org/weights.pth"):
        with pytest.raises(MedganError) as caught:
            encoder_named(f"{kind}:{path}")
        assert "Nothing is downloaded by itself" in str(caught.value)


@pytest.mark.parametrize("name", ["randm", "no-such", "a b:c"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(MedganError, match="no encoder called"):
        encoder_named(name)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, 1, float("nan"))])
def test_impossible_spacings_are_refused(spacing: tuple[float, ...], tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(MedganError, match="three positive numbers"):
        encoder_named(f"medicalnet:{tmp_path / 'weights.pth'}", spacing=spacing)


def residual(layers: list[int], block: str, shortcut: str = "B", **options: object) -> ResNet:
    """MONAI's network with random weights and running statistics that matter."""
    torch.manual_seed(1)
    network = ResNet(
        block,
        layers,
        [64, 128, 256, 512],
        conv1_t_size=7,
        conv1_t_stride=2,
        shortcut_type=shortcut,
        bias_downsample=False,
        feed_forward=False,
        **options,
    )
    for part in network.modules():
        if isinstance(part, nn.BatchNorm3d | nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(
    ("depth", "layers", "shortcut"),
    [(10, [1, 1, 1, 1], "B"), pytest.param(18, [2, 2, 2, 2], "A", marks=pytest.mark.slow)],
)
def test_medicalnet_is_monais_network_on_standardised_volumes(
    depth: int, layers: list[int], shortcut: str, tmp_path: Path
) -> None:
    network = residual(layers, "basic", shortcut, spatial_dims=3, n_input_channels=1)
    # As the authors wrote their files: behind "module.", with the head for segmentation.
    weights = {f"module.{name}": one for name, one in network.state_dict().items()}
    weights["module.conv_seg.0.weight"] = torch.zeros(2)
    torch.save({"state_dict": weights}, tmp_path / "resnet.pth")
    encoder = encoder_named(f"medicalnet:{tmp_path / 'resnet.pth'}")
    assert encoder.name.startswith(f"medicalnet-resnet{depth}-")
    volumes = np.random.default_rng(3).random((2, 16, 24, 20)).astype(np.float32)
    volumes[1] *= 3
    standard = (volumes - volumes.mean((1, 2, 3), keepdims=True)) / volumes.std((1, 2, 3), keepdims=True, ddof=1)
    with torch.no_grad():
        wanted = network(torch.from_numpy(standard)[:, None]).numpy()
    np.testing.assert_allclose(encoder.extract(volumes), wanted, rtol=1e-3, atol=1e-4)


def test_wrong_weights_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    with torch.device("meta"):
        shapes = ResNet(
            "basic", [1, 1, 1, 1], [64, 128, 256, 512], 3, 1, 7, 2, bias_downsample=False, feed_forward=False
        ).state_dict()
    # One zero each on disk.
    good = {name: torch.tensor(0.0).expand(one.shape) for name, one in shapes.items()}

    def refused(content: object) -> str:
        torch.save(content, path)
        with pytest.raises(MedganError) as caught:
            encoder_named(f"medicalnet:{path}")
        return str(caught.value)

    without = OrderedDict((name, one) for name, one in good.items() if name != "layer2.0.bn1.weight")
    assert "missing layer2.0.bn1.weight" in refused(without)
    assert "unexpected layer9.weight" in refused(good | {"layer9.weight": torch.zeros(1)})
    assert "of another shape bn1.bias" in refused(good | {"bn1.bias": torch.zeros(3)})
    assert "conv1.weight must have shape" in refused(good | {"conv1.weight": torch.zeros(64, 3, 7, 7)})
    assert "no mapping of names to tensors" in refused({"epoch": 3})
    # A pickled network could run code.
    assert "cannot be read as weights alone" in refused(small())
    path.write_bytes(b"no weights at all")
    with pytest.raises(MedganError, match="cannot be read"):
        encoder_named(f"medicalnet:{path}")


class AsKeras(nn.Module):
    """The residual network of Keras: biases in convolutions, halving in the first of each block."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = residual([3, 4, 6, 3], "bottleneck", spatial_dims=2, n_input_channels=3)
        for name, part in list(self.inner.named_modules()):
            if isinstance(part, nn.Conv2d):
                parent = self.inner.get_submodule(name.rpartition(".")[0])
                biased = nn.Conv2d(
                    part.in_channels, part.out_channels, part.kernel_size, part.stride, part.padding, bias=True
                )
                biased.weight = part.weight
                setattr(parent, name.rpartition(".")[2], biased)
            if isinstance(part, nn.BatchNorm2d):
                part.eps = 1.001e-5
        for stage in (self.inner.layer2, self.inner.layer3, self.inner.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


MEANS, DEVIATIONS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def planar_truth(network: nn.Module, volume: Volumes, mean: NDArray[np.float64], by: NDArray[np.float64]) -> Volumes:
    """The mean over four slices of each axis, one at a time."""
    found = []
    for axis in range(3):
        rows = []
        for place in chosen_slices(volume.shape[axis], 4).tolist():
            plane = np.take(volume, place, axis=axis)
            seen = (plane[None] - mean[:, None, None]) / by[:, None, None]
            with torch.no_grad():
                rows.append(network(torch.from_numpy(seen[None].astype(np.float32)))[0].numpy())
        found.append(np.mean(rows, axis=0))
    return np.concatenate(found)


@pytest.mark.slow
def test_imagenet_weights_by_torchvisions_names_and_by_the_authors_of_radimagenet(tmp_path: Path) -> None:
    network = residual([3, 4, 6, 3], "bottleneck", spatial_dims=2, n_input_channels=3)
    weights = network.state_dict()
    torch.save(weights | {"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "resnet50.pth")
    stages = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    renamed = {f"backbone.{stages[n.split('.')[0]]}.{n.partition('.')[2]}": one for n, one in weights.items()}
    torch.save(renamed, tmp_path / "ResNet50.pt")
    volume = np.random.default_rng(5).random((16, 20, 18)).astype(np.float32)
    found = resnet50_encoder(tmp_path / "resnet50.pth", "imagenet", slices=4)
    np.testing.assert_allclose(
        found.extract([volume])[0], planar_truth(network, volume, MEANS, DEVIATIONS), rtol=1e-3, atol=1e-4
    )
    authors = resnet50_encoder(tmp_path / "ResNet50.pt", "radimagenet", slices=4)
    wanted = planar_truth(network, volume, MEANS[::-1], np.ones(3))
    np.testing.assert_allclose(authors.extract([volume])[0], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_radimagenet_weights_that_were_converted_from_keras(tmp_path: Path) -> None:
    network = AsKeras().eval()
    torch.save(network.inner.state_dict(), tmp_path / "RadImageNet-ResNet50_notop.pth")
    volume = np.random.default_rng(5).random((16, 20, 18)).astype(np.float32)
    found = resnet50_encoder(tmp_path / "RadImageNet-ResNet50_notop.pth", "radimagenet", slices=4)
    wanted = planar_truth(network, volume, MEANS[::-1], np.ones(3))
    np.testing.assert_allclose(found.extract([volume])[0], wanted, rtol=1e-3, atol=1e-4)


def test_other_weights_are_no_network_for_slices(tmp_path: Path) -> None:
    torch.save({"backbone.0.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(MedganError, match="not weights of a ResNet-50 for slices: missing bn1"):
        encoder_named(f"radimagenet:{tmp_path / 'weights.pt'}")


class Size(nn.Module):
    """Height, width and mean of a slice."""

    def forward(self, x: Tensor) -> Tensor:
        sizes = torch.tensor([float(x.shape[2]), float(x.shape[3])]).expand(len(x), 2)
        return torch.cat((sizes, x.mean(dim=(1, 2, 3))[:, None]), dim=1)


def test_slices_lie_across_all_axes_and_have_square_pixels() -> None:
    ramp = np.broadcast_to(np.arange(8.0, dtype=np.float32)[:, None, None], (8, 10, 12))
    found = PlanarEncoder(Size(), slices=2).extract([ramp])[0].reshape(3, 3)
    # Sagittal, coronal, axial; the sagittal slices are those at 2 and 6 of the ramp.
    np.testing.assert_allclose(found, [[10, 12, 4], [8, 12, 3.5], [8, 10, 3.5]])
    thick = PlanarEncoder(Size(), slices=2, spacing=(1.0, 1.0, 4.0))
    np.testing.assert_allclose(thick.extract([ramp])[0].reshape(3, 3)[:, :2], [[10, 48], [8, 48], [8, 10]])
    assert thick.name != PlanarEncoder(Size(), slices=2).name
    assert PlanarEncoder(Size(), slices=2, spacing=(0.5, 0.5, 0.5)).name == PlanarEncoder(Size(), slices=2).name
    assert PlanarEncoder(Size(), slices=3).name != PlanarEncoder(Size(), slices=2).name
    assert chosen_slices(5, 12).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("encoder", [RandomEncoder(), NetworkEncoder(small()), PlanarEncoder(nn.Conv2d(3, 2, 3))])
def test_all_refuse_the_same_volumes(encoder: Encoder) -> None:
    good = np.zeros((8, 8, 8), np.float32)
    for volumes in ([], [good, np.zeros((8, 8, 9), np.float32)], [np.zeros((7, 8, 8))], [good + np.nan]):
        with pytest.raises(MedganError):
            encoder.extract(volumes)
