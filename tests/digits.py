"""A project's config over the handwritten digits, with data of its own."""

from pathlib import Path

from rarts_mm.datasets import make_digits

CONFIG = """
_base_ = "{base}"
train_dataloader = dict(batch_size={batch}, dataset=dict(data_root="{data}"))
val_dataloader = dict(dataset=dict(data_root="{data}"))
test_dataloader = dict(dataset=dict(data_root="{data}", data_prefix="val"))
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
"""


def write_digits(folder: Path, base: Path, batch: int, epochs: int, more: str = "") -> Path:
    """Write ``search.py`` over ``base`` into a folder, and the images if they are not there; its path."""
    data = folder / "digits"
    if not data.exists():
        make_digits(data)
    path = folder / "search.py"
    path.write_text(CONFIG.format(base=base, batch=batch, data=data, epochs=epochs) + more)
    return path
