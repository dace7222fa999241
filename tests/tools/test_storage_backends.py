"""Data that are read through another storage backend than this machine's files."""

import pytest

from tests.conftest import run_tool

# A backend that finds files elsewhere than they are named, as petrel does with ``path_mapping``.
BACKEND = """
from mmengine.fileio import LocalBackend, register_backend


class MappedBackend(LocalBackend):
    def __init__(self, path_mapping):
        self.mapping = path_mapping

    def _map(self, path):
        for start, target in self.mapping.items():
            path = str(path).replace(start, target)
        return path

    def get(self, path):
        return super().get(self._map(path))

    def get_local_path(self, path):
        return super().get_local_path(self._map(path))


register_backend("mapped-{number}", MappedBackend)
"""
CONFIG = """
_base_ = "{base}"
custom_imports = dict(imports=["rarts_mm", "{module}"], allow_failed_imports=False)
elsewhere = {backend}
loader = dict(type="LoadImageFromFile", backend_args={images})
dataset = dict(
    data_root="/no/such/place/",
    backend_args=elsewhere,
    pipeline=[loader, *_base_.test_dataloader.dataset.pipeline[1:]],
)
val_dataloader = dict(batch_size=4, dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="/no/such/place/annotations/val.json", backend_args=elsewhere)
test_evaluator = val_evaluator
"""


def write_config(folder, base, name, backend, images=None):
    path = folder / f"{name}.py"
    module = f"backend_{name}"
    (folder / f"{module}.py").write_text(BACKEND.format(number=name))
    images = backend if images is None else images
    path.write_text(CONFIG.format(base=base, module=module, backend=backend, images=images))
    return path


def test_a_mapped_prefix_is_read(small_config, shapes, search_copy, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    backend = dict(backend="mapped-a", path_mapping={"/no/such/place": str(shapes)})
    config = write_config(tmp_path, small_config, "a", backend)
    status, out, err = run_tool("test", config, search_copy, "--work-dir", tmp_path / "out")
    assert status == 0, err
    assert "bbox_mAP" in out + err


@pytest.mark.parametrize(
    "backend",
    [
        dict(backend="petrel", path_mapping={"/no/": "s3://no/"}),
        dict(backend="lmdb", db_path="/no.lmdb"),
        dict(backend="http"),
        dict(prefix="s3"),
    ],
)
def test_other_backends_are_not_looked_at(small_config, tmp_path, backend, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    config = write_config(tmp_path, small_config, "b", backend)
    # The next thing that is looked at.
    checkpoint = tmp_path / "none.pth"
    checkpoint.write_text("no checkpoint")
    status, _, err = run_tool("test", config, checkpoint, "--work-dir", tmp_path / "out")
    assert status == 2
    assert "none.pth" in err
    assert "missing" not in err


def test_files_of_this_machine_are_still_missed(small_config, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for backend, images, named in (
        (dict(backend="local"), None, ["val.json", "/no/such/place/val"]),
        (None, dict(backend="http"), ["val.json"]),
        (dict(backend="http"), dict(backend="LocalBackend"), ["/no/such/place/val"]),
    ):
        config = write_config(tmp_path, small_config, "c", backend, images or backend)
        status, _, err = run_tool("test", config, tmp_path / "none.pth")
        assert status == 2
        reported = [line.split()[1] for line in err.splitlines() if "expected at" in line]
        assert len(reported) == len(named), err
        assert all(path.endswith(end) for path, end in zip(reported, named, strict=True)), err
