"""Networks that somebody trained: cut from a module, read from a file, fetched from timm; and nothing is executed."""

import json
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, EverlearnError, LayerError, StoreError, UnknownNameError
from everlearn.methods.fine_tuning import FineTuning
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.timm_models import timm_backbone
from everlearn.networks.trained import TrainedFile, from_module, pack_trained, read_trained, with_weights
from tests.methods.family import small

CLASSES = ("cat", "dog", "fox")


class Net(nn.Module):
    """Somebody's network: normalised, with functional code between its children, and one of them used twice."""

    def __init__(self, classes: int = 3, channels: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2)
        self.pool, self.drop = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5)
        self.fc = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.act(self.bn1(self.conv1(images)))
        hidden = self.pool(self.act(self.conv2(hidden)))
        return self.fc(self.drop(hidden).flatten(1))


CUT = ("conv1+bn1+act", "conv2+act", "pool+drop")


def trained(classes: int = 3, channels: int = 1) -> Net:
    """As if trained: in training mode, with running statistics of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net(classes, channels)
        net(2 * torch.randn(8, channels, 8, 8) + 1)
    return net


def made_images(count: int = 5, channels: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(count, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def made(net: nn.Module, blocks: Sequence[str] = CUT, head: str = "fc", classes: Sequence[str] = CLASSES) -> Backbone:
    return from_module(net, head, "animals", classes, made_images(), blocks)


def begun(backbone: Backbone) -> LifelongNetwork:
    """A learner that knows what the backbone knows, and a task of two classes; before any learning."""
    method = FineTuning()
    network = method.network(backbone, 2, 0)
    method.begin(network, {}, len(backbone.trained[0].classes))
    method.begin(network, {}, 2)
    return network.eval()


# ---------------------------------------------------------------- a module


@pytest.mark.parametrize("blocks", [(), CUT, ("conv1", "bn1", "act+conv2", "act", "pool")])
def test_a_learner_answers_as_the_module_did(blocks: Sequence[str]) -> None:
    net = trained()
    backbone = made(net, blocks)
    assert len(backbone.blocks) == max(1, len(blocks))
    network = begun(backbone)
    images = made_images(seed=2)
    wanted = net.eval()(images)
    torch.testing.assert_close(network(images, 0), wanted)
    torch.testing.assert_close(network.export(0)(images), wanted)
    assert network(images, 1).shape == (5, 2)
    assert torch.equal(network.features(images, 0), network.features(images, 1)), "the trunk is shared"


def test_what_comes_out_says_what_it_knows() -> None:
    backbone = from_module(trained(), "fc", "animals", CLASSES, made_images(), multi_label=True, name="mine")
    assert (backbone.name, backbone.start) == ("mine", "given")
    (known,) = backbone.trained
    assert (known.name, known.classes, known.multi_label) == ("animals", CLASSES, True)
    assert not made(trained()).trained[0].multi_label
    shapes = [tuple(p.shape) for p in backbone.head(7).parameters()]
    assert shapes == [(7, 6), (7,)], "new heads take the same features"


@pytest.mark.parametrize("blocks", [(), CUT])
@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_copied_and_left_as_it_was(blocks: Sequence[str], training: bool) -> None:
    net = trained().train(training)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    backbone = made(net, blocks)
    with torch.no_grad():
        for module in [*backbone.blocks, backbone.trained[0].head]:
            for tensor in [*module.parameters(), *module.buffers()]:
                tensor.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert isinstance(net.fc, nn.Linear)
    assert {module.training for module in net.modules()} == {training}


def test_a_head_inside_a_child() -> None:
    net = nn.Sequential(
        OrderedDict(trunk=nn.Flatten(), top=nn.Sequential(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)))
    )
    backbone = made(net, head="top.2", blocks=("trunk", "top"))
    images = made_images(seed=2)
    torch.testing.assert_close(begun(backbone)(images, 0), net(images))


CHILDREN = "conv1, bn1, act, conv2, pool, drop, fc"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (CUT[::-1], rf"something else than the network.*\({CHILDREN}\)"),
        (("conv1+act+bn1", *CUT[1:]), rf"something else than the network.*\({CHILDREN}\)"),
        (("conv1+act", *CUT[1:]), "something else"),
        (CUT[:2], "something else"),
        ((*CUT, "fc", "conv2"), "something else"),
        (("conv1+bn2", *CUT[1:]), rf"no part 'conv1\+bn2'; its parts are {CHILDREN}"),
        (("conv1", "norm"), "no part 'norm'"),
    ],
)
def test_a_wrong_cut_is_told_with_the_children(blocks: Sequence[str], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        made(trained(), blocks)


@pytest.mark.parametrize(
    ("head", "classes", "kind", "message"),
    [
        ("classifier", CLASSES, LayerError, f"no layer 'classifier'; its parts are {CHILDREN}"),
        ("fc.inner", CLASSES, LayerError, "no layer 'fc.inner'"),
        ("pool", CLASSES, LayerError, "the head 'pool' needs to be a linear layer.*is a AdaptiveAvgPool2d"),
        ("", CLASSES, LayerError, "needs to be a linear layer"),
        ("fc", CLASSES[:2], ConfigurationError, "has 3 outputs, but 2 names"),
        ("fc", (*CLASSES, "owl"), ConfigurationError, "has 3 outputs, but 4 names"),
    ],
)
def test_a_head_that_will_not_do_is_told(
    head: str, classes: Sequence[str], kind: type[EverlearnError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        made(trained(), (), head, classes)


def test_a_network_that_is_its_head_is_told() -> None:
    with pytest.raises(LayerError, match="needs to be a linear layer of the network"):
        made(nn.Linear(8, 3), (), "")


def test_a_network_for_other_images_is_told() -> None:
    with pytest.raises(LayerError, match=r"does not take images of shape \(1, 8, 8\) \(.*3 channels"):
        made(trained(channels=3))


@pytest.mark.parametrize("place", ["block", "buffer", "head"])
def test_the_fingerprint_changes_with_one_number(place: str) -> None:
    first, second = made(trained()), made(trained())
    assert first.fingerprint() == second.fingerprint()
    assert len(first.fingerprint()) == 16
    changed: Tensor = {
        "block": second.blocks[1][0].weight,  # type: ignore[index,dict-item]
        "buffer": second.blocks[0][1].running_mean,  # type: ignore[index,dict-item]
        "head": second.trained[0].head[1].bias,  # type: ignore[index,dict-item]
    }[place]
    with torch.no_grad():
        changed.view(-1)[1] = torch.nextafter(changed.view(-1)[1], torch.tensor(9.0))
    assert first.fingerprint() != second.fingerprint()
    assert small().fingerprint() == "", "these numbers do not count"


# ---------------------------------------------------------------- a file


def exported(classes: int = 3, norm: bool = False) -> nn.Sequential:
    network = LifelongNetwork(small(norm), FineTuning().network(small(), 1, 0).rule, 4)
    network.add_task(classes, (True,) * 3)
    return network.export(0)


def given(plain: nn.Module, path: Path, wrap: Callable[[dict[str, Tensor]], object] = lambda state: state) -> Path:
    """The network in a file of the kind that the path's ending says."""
    if path.suffix == ".safetensors":
        path.write_bytes(pack_trained(plain, "animals", CLASSES, False))
    else:
        torch.save(wrap(plain.state_dict()), path)
    return path


WRAPS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "plain": lambda state: state,
    "ordered": OrderedDict,
    "nested": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "nested parallel": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    "with numbers": lambda state: {**state, "epoch": 3},
}


@pytest.mark.parametrize(
    ("ending", "wrap"),
    [("safetensors", "plain"), *((end, "plain") for end in ("pth", "bin", "ckpt")), *(("pt", wrap) for wrap in WRAPS)],
)
def test_what_is_written_is_read(tmp_path: Path, ending: str, wrap: str) -> None:
    plain, images = exported(norm=True), made_images()
    file = read_trained(given(plain, tmp_path / f"net.{ending}", WRAPS[wrap]))
    assert file.tensors.keys() == plain.state_dict().keys()
    backbone = with_weights(small(norm=True), file, "net", "things", ("a", "b", "c"))
    (known,) = backbone.trained
    says = ending == "safetensors"
    assert (known.name, known.classes) == (("animals", CLASSES) if says else ("things", ("a", "b", "c")))
    assert backbone.start == "given"
    torch.testing.assert_close(begun(backbone)(images, 0), plain(images), rtol=0, atol=0)


def test_a_file_says_its_task(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(pack_trained(exported(), "animals", CLASSES, multi_label=True))
    file = read_trained(path)
    assert (file.task, file.classes, file.multi_label) == ("animals", CLASSES, True)
    assert with_weights(small(), file, "net", "other", ("x", "y", "z")).trained[0].multi_label
    save_file(exported().state_dict(), path)
    file = read_trained(path)
    assert (file.task, file.classes, file.multi_label) == (None, (), False)
    (known,) = with_weights(small(), file, "net", "net").trained
    assert (known.name, known.classes) == ("net", ("0", "1", "2"))


def test_the_backbone_that_was_asked_for_is_left_as_it_was() -> None:
    backbone = small()
    before = [{n: t.clone() for n, t in block.state_dict().items()} for block in backbone.blocks]
    random = torch.random.get_rng_state()
    made = with_weights(backbone, TrainedFile(exported().state_dict()), "net", "net")
    assert torch.equal(torch.random.get_rng_state(), random), "the global generator is left alone"
    for block, numbers, other in zip(backbone.blocks, before, made.blocks, strict=True):
        for name, tensor in block.state_dict().items():
            assert torch.equal(tensor, numbers[name])
            assert not torch.equal(tensor, other.state_dict()[name])


HEADS: dict[str, Callable[[int], nn.Module]] = {
    "names out of order": lambda classes: nn.Sequential(
        OrderedDict(wide=nn.Linear(8, 5), answer=nn.Linear(5, classes))
    ),
    "many layers": lambda classes: nn.Sequential(nn.Linear(8, 5), *[nn.ReLU()] * 9, nn.Linear(5, classes)),
    "normalised": lambda classes: nn.Sequential(OrderedDict(z=nn.BatchNorm1d(8), a=nn.Linear(8, classes))),
}


@pytest.mark.parametrize("kind", HEADS)
def test_how_many_classes_is_told_by_the_heads_last_layer(tmp_path: Path, kind: str) -> None:
    backbone = Backbone("headed", small().blocks, HEADS[kind], start="module")
    network = LifelongNetwork(backbone, FineTuning().network(backbone, 1, 0).rule, 0)
    network.add_task(3, (True,) * 3)
    plain, path = network.export(0), tmp_path / "net.safetensors"
    save_file(plain.state_dict(), path)
    found = with_weights(backbone, read_trained(path), "net", "net")
    assert found.trained[0].classes == ("0", "1", "2")
    torch.testing.assert_close(begun(found)(made_images(), 0), plain(made_images()))


class Evil:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("ending", ["pt", "pth", "ckpt", "bin", "safetensors"])
@pytest.mark.parametrize("kind", ["raw", "saved", "nested"])
def test_code_in_a_file_is_not_executed(tmp_path: Path, ending: str, kind: str) -> None:
    proof, path = tmp_path / "executed", tmp_path / f"net.{ending}"
    if kind == "raw":
        path.write_bytes(pickle.dumps(Evil(proof)))
        pickle.loads(path.read_bytes()).close()
        assert proof.exists(), "the file is harmless, so nothing is tested"
        proof.unlink()
    else:
        evil = {"block1.0.weight": torch.ones(2), "more": Evil(proof)}
        torch.save({"state_dict": evil} if kind == "nested" else evil, path)
    with pytest.raises(StoreError, match=r"cannot be read as (a state dict|safetensors)"):
        read_trained(path)
    assert not proof.exists()


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("damage", ["empty", "half", "text", "cut off at the end"])
def test_a_damaged_file_is_told(tmp_path: Path, ending: str, damage: str) -> None:
    path = given(exported(), tmp_path / f"net.{ending}")
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "text": b"not a network\n" * 9,
            "cut off at the end": whole[:-9],
        }[damage]
    )
    with pytest.raises(StoreError, match="cannot be read as") as caught:
        read_trained(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("about", ['{"classes": null}', '{"classes": 3}', "[]", "{", '"x"'])
def test_a_header_of_another_kind_is_told(tmp_path: Path, about: str) -> None:
    save_file(exported().state_dict(), tmp_path / "net.safetensors", {"everlearn": about})
    with pytest.raises(StoreError, match="cannot be read as safetensors"):
        read_trained(tmp_path / "net.safetensors")


@pytest.mark.parametrize("content", [[1, 2], 3, {}, {"epoch": 3}, {"state_dict": {"lr": 0.1}}, torch.ones(3)])
def test_a_file_of_something_else_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(StoreError, match="holds no state dict"):
        read_trained(tmp_path / "net.pt")


def test_no_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(StoreError, match="there is no file"):
            read_trained(path)


def changed(change: Callable[[dict[str, Tensor]], object]) -> TrainedFile:
    tensors = dict(exported().state_dict())
    change(tensors)
    return TrainedFile(tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ts: ts.pop("block2.2.weight"), "FILE is no network of .* 'small': it lacks 'block2.2.weight'"),
        (lambda ts: ts.pop("head.1.weight"), "it lacks 'head.1.weight'"),
        (lambda ts: ts.pop("head.1.bias"), "it lacks 'head.1.bias'"),
        (lambda ts: ts.update({"block9.x": torch.ones(1)}), "it has 'block9.x', which the backbone has not"),
        (
            lambda ts: ts.update({"block4.0.weight": ts.pop("block1.0.weight")}),
            "lacks 'block1.0.weight' and has 'block4.0.weight'",
        ),
        (lambda ts: ts.update({"block2.2.weight": torch.ones(12, 65)}), r"'small': size mismatch for 2.weight"),
        (lambda ts: ts.update({"head.1.weight": torch.ones(3, 9)}), "size mismatch for 1.weight"),
        (lambda ts: ts.update({"head.1.bias": torch.ones(())}), "it lacks 'head.1.bias'"),
        (lambda ts: [ts.pop(name) for name in list(ts) if name.startswith("head")], "no tensor named head"),
        (lambda ts: [ts.update({f"net.{name}": ts.pop(name)}) for name in list(ts)], "block1.*but it has net.block1"),
    ],
)  # fmt: skip
def test_a_file_of_another_network_is_told(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        with_weights(small(), changed(change), "FILE", "net")


@pytest.mark.parametrize("says", [True, False])
def test_another_number_of_names_is_told(says: bool) -> None:
    file = replace(changed(lambda ts: None), classes=("a", "b") if says else ())
    with pytest.raises(StoreError, match="FILE has 3 outputs, but 2 names"):
        with_weights(small(), file, "FILE", "net", CLASSES if says else CLASSES[:2])


def test_a_networks_header_is_plain_json(tmp_path: Path) -> None:
    content = pack_trained(exported(), "animals", CLASSES, False)
    length = int.from_bytes(content[:8], "little")
    about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["everlearn"])
    assert about == {"task": "animals", "classes": list(CLASSES), "multi_label": False}


# ---------------------------------------------------------------- timm, by a stand-in of its functions


class Model(Net):
    """What timm's models have beyond a module."""

    def __init__(self, classes: int, channels: int, tag: str | None) -> None:
        super().__init__(classes, channels)
        self.num_classes = classes
        self.pretrained_cfg = {"num_classes": classes, "architecture": "resnet18", **({"tag": tag} if tag else {})}

    def get_classifier(self) -> nn.Module:
        return self.fc


class ImageNetInfo:
    """Names as timm's: by WordNet's lemmas, two of which are the same."""

    twice = True

    def __init__(self, subset: str = "imagenet-1k") -> None:
        assert subset == "imagenet-1k"

    def index_to_description(self, index: int, detailed: bool = False) -> str:
        assert 0 <= index < 1000
        return "crane" if self.twice and index in (134, 517) else f"thing {index}"


def infer_imagenet_subset(model_or_cfg: object) -> str | None:
    return {1000: "imagenet-1k"}.get(getattr(model_or_cfg, "num_classes", 0))


class Timm(ModuleType):
    """timm 1.x, as far as it is used."""

    def __init__(self) -> None:
        super().__init__("timm")
        self.data = SimpleNamespace(infer_imagenet_subset=infer_imagenet_subset, ImageNetInfo=ImageNetInfo)
        self.classes = 1000
        self.made: list[Model] = []
        self.fault: Exception | None = None

    def is_model(self, model_name: str) -> bool:
        return model_name in self.list_models()

    def list_models(self, filter: str = "", module: str = "", pretrained: bool = False) -> list[str]:
        return ["resnet18", "vgg16"]

    def create_model(self, model_name: str, pretrained: bool = False, **kwargs: int) -> Model:
        assert pretrained
        if self.fault:
            raise self.fault
        torch.manual_seed(1)
        self.made.append(Model(self.classes, kwargs.pop("in_chans", 3), model_name.partition(".")[2] or None))
        assert not kwargs
        return self.made[-1]


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Timm:
    stand_in = Timm()
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return stand_in


def test_a_model_of_timm_knows_imagenet(timm: Timm) -> None:
    backbone = make_backbone("timm:resnet18.a1_in1k", (1, 8, 8))
    (known,) = backbone.trained
    assert (backbone.name, known.name, len(backbone.blocks)) == ("timm:resnet18.a1_in1k", "imagenet", 1)
    assert known.classes[:2] == ("0: thing 0", "1: thing 1"), "two have one name, so all are numbered"
    assert (known.classes[134], known.classes[517]) == ("134: crane", "517: crane")
    images = made_images()
    torch.testing.assert_close(begun(backbone)(images, 0), timm.made[0].eval()(images))
    assert backbone.fingerprint()


def test_names_that_are_unique_are_left(timm: Timm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageNetInfo, "twice", False)
    assert timm_backbone("vgg16", (3, 8, 8)).trained[0].classes[134] == "thing 134"


@pytest.mark.parametrize(
    ("name", "classes", "task", "first"),
    [
        ("resnet18.a1_in1k", 1000, "imagenet", "0: thing 0"),
        ("resnet18", 1000, "pretrained", "0: thing 0"),
        ("resnet18.mine", 1000, "mine", "0: thing 0"),
        ("resnet18.mine_in1k", 4, "mine_in1k", "0"),
    ],
)
def test_the_task_is_called_imagenet_or_as_the_tag(timm: Timm, name: str, classes: int, task: str, first: str) -> None:
    timm.classes = classes
    (known,) = timm_backbone(name, (1, 8, 8)).trained
    assert (known.name, len(known.classes), known.classes[0]) == (task, classes, first)


def test_names_are_numbers_where_timm_knows_none(timm: Timm) -> None:
    del timm.data
    assert timm_backbone("resnet18", (1, 8, 8)).trained[0].classes[999] == "999"


@pytest.mark.parametrize("fault", [RuntimeError("No pretrained weights exist for resnet18."), OSError("no network")])
def test_no_weights_are_told(timm: Timm, fault: Exception) -> None:
    timm.fault = fault
    with pytest.raises(ConfigurationError, match=rf"no weights for 'resnet18', or cannot fetch them: {fault}"):
        timm_backbone("resnet18", (1, 8, 8))


def test_an_unknown_model_is_told_before_anything_is_fetched(timm: Timm) -> None:
    with pytest.raises(UnknownNameError, match=r"no timm model named 'resnet81\.a1_in1k'; did you mean resnet18"):
        timm_backbone("resnet81.a1_in1k", (1, 8, 8))
    assert timm.made == []


def test_a_classifier_of_another_kind_is_told(timm: Timm, monkeypatch: pytest.MonkeyPatch) -> None:
    for classifier, kind in ((nn.Conv2d(6, 1000, 1), "Conv2d"), ((nn.Linear(6, 9), nn.Linear(6, 9)), "tuple")):
        monkeypatch.setattr(Model, "get_classifier", lambda model, found=classifier: found)
        with pytest.raises(ConfigurationError, match=f"classifier of 'resnet18' needs to be a linear layer.* {kind}"):
            timm_backbone("resnet18", (1, 8, 8))


def test_a_model_for_images_of_one_size_is_told(timm: Timm, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(model: Model, images: Tensor) -> Tensor:
        raise AssertionError("Input height (8) doesn't match model (224).")

    monkeypatch.setattr(Model, "forward", forward)
    with pytest.raises(LayerError, match=r"images of shape \(3, 8, 8\) \(Input height \(8\) doesn't match"):
        timm_backbone("resnet18", (3, 8, 8))


def test_without_timm_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigurationError, match=r"need timm, which is not here .*pip install everlearn\[timm\]"):
        make_backbone("timm:resnet18", (1, 8, 8))
