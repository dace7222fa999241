"""What a killed process leaves of a file goes with the next one; that of a living one stays."""

from rarts_mm.datasets import make_digits
from rarts_mm.files import write_text
from tests.conftest import ROOT
from tests.holding import another_process, kill


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def holding(context: str):
    """A process in a temporary file or folder, without the package's own imports."""
    path = str(ROOT / "rarts_mm" / "temporary.py")
    code = "import importlib.util as u; s = u.spec_from_file_location('temporary', "
    code += f"{path!r}); m = u.module_from_spec(s); s.loader.exec_module(m)"
    return another_process(code, f"m.{context}")


def test_a_file_of_a_killed_process_goes_with_the_next_of_its_name(tmp_path):
    target = tmp_path / "widths.json"
    own = [".widths-mine.json", ".widths-ABCDEFGH.json", ".width-a1b2c3d4.json"]
    for name in own:
        (tmp_path / name).touch()
    with holding(f"temporary_file({str(tmp_path)!r}, '.widths-', '.json')") as process:
        (left,) = set(names(tmp_path)) - set(own)
        write_text(target, "1")
        assert names(tmp_path) == sorted([*own, left, target.name])
        kill(process)
        write_text(target, "2")
    assert names(tmp_path) == sorted([*own, target.name])
    assert target.read_text() == "2"


def test_a_folder_of_a_killed_process_goes_with_the_next_data_set(tmp_path):
    """Whether that is written, or is there already."""
    for _ in range(2):
        with holding(f"temporary_folder({str(tmp_path)!r}, '.digits-')") as process:
            (left,) = tmp_path.glob(".digits-*")
            (left / "new").mkdir()
            (left / "new" / "0.png").touch()
            make_digits(tmp_path / "digits")
            assert names(tmp_path) == [left.name, "digits"]
            kill(process)
            make_digits(tmp_path / "digits")
            assert names(tmp_path) == ["digits"]
