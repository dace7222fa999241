"""Genotypes: what is read, what is refused and why, and that writing and reading agree."""

import dataclasses
import json
import random

import pytest
from mmengine import Config

from rarts_mm.cells.genotype import GENOTYPES, Genotype
from rarts_mm.cells.operations import OPERATIONS

V1_TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('skip_connect', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=range(2, 6))"
)
V2 = GENOTYPES["DARTS_V2"]


def with_(**values) -> dict:
    return {**V2.to_dict(), **values}


def random_genotype(generator: random.Random) -> Genotype:
    names = [name for name in OPERATIONS if name != "none"]
    parts = {}
    for cell in ("normal", "reduce"):
        nodes = generator.randint(1, 6)
        parts[cell] = [
            (generator.choice(names), generator.randrange(2 + i))
            for i in range(nodes)
            for _ in "ab"
        ]
        everyone = list(range(2, 2 + nodes))
        parts[f"{cell}_concat"] = generator.sample(everyone, generator.randint(1, nodes))
    return Genotype(**parts)


def test_published_genotypes_read_as_they_were_printed():
    assert Genotype.parse(V1_TEXT) == GENOTYPES["DARTS_V1"] == Genotype.parse(" DARTS_V1 ")
    assert GENOTYPES["DARTS_V1"].text() == V1_TEXT
    assert V2.skip_shares == dict(normal=2 / 8, reduce=3 / 8)
    assert V2.skip_share == 5 / 16
    assert V2.nodes("normal")[3] == (("skip_connect", 0), ("dil_conv_3x3", 2))
    assert Genotype.parse(V2) is V2


def test_every_form_gives_the_same_genotype_back(tmp_path):
    generator = random.Random(0)
    for _ in range(50):
        genotype = random_genotype(generator)
        text = genotype.text()
        assert eval(text, {"Genotype": Genotype, "range": range}) == genotype
        forms = [text, genotype.to_dict(), json.dumps(genotype.to_dict()), f"FOUND = {text}\n"]
        forms += [text.replace("Genotype(", "genotypes.Genotype("), dataclasses.asdict(genotype)]
        assert all(Genotype.parse(form) == genotype for form in forms)
    # A config holds it as text or as a dict.
    for value in (text, genotype.to_dict()):
        Config(dict(genotype=value)).dump(tmp_path / "config.py")
        read = Config.fromfile(tmp_path / "config.py").genotype
        assert Genotype.parse(read) == genotype


@pytest.mark.parametrize(
    "concat",
    ["range(2, 6)", "range(2,6,1)", "list(range(2, 6))", "[2, 3, 4, 5]", "(2, 3, 4, 5)"],
)
def test_the_concatenation_may_be_a_range_or_a_list(concat):
    assert Genotype.parse(V2.text().replace("range(2, 6)", concat)) == V2


def test_values_may_stand_without_names():
    text = V2.text()
    for name in ("normal", "normal_concat", "reduce", "reduce_concat"):
        text = text.replace(f"{name}=", "", 1)
    assert Genotype.parse(text) == V2


def test_a_node_may_have_one_input_twice_and_cells_other_numbers_of_nodes():
    genotype = Genotype([("skip_connect", 1), ("skip_connect", 1)], [2], V2.reduce, [5, 3])
    assert genotype.normal == (("skip_connect", 1),) * 2
    assert genotype.skip_shares == dict(normal=1.0, reduce=3 / 8)
    assert genotype.skip_share == 5 / 10
    assert genotype.reduce_concat == (5, 3)
    assert Genotype.parse(genotype.text()) == genotype


def _pairs(*changes: tuple[int, object]) -> list:
    pairs = V2.to_dict()["normal"]
    for i, pair in changes:
        pairs[i] = pair
    return pairs


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ("DARTS_V3", r"'DARTS_V3'.*no published one; did you mean 'DARTS_V2'\? known: DARTS_V1,"),
        ("darts_v1", "did you mean 'DARTS_V1'"),
        ("", "''.*no published one"),
        (3, "expected text, a mapping.* got int"),
        ("{'normal': []}", "not JSON.*line 1 column 2"),
        ("Genotype(normal=[", r"not the text of a genotype.*never closed at line 1, column 17"),
        ("print('hello')", r"expected Genotype\(normal=\.\.\., normal_concat"),
        ("Genotype(1, 2, 3, 4, 5)", "5 values"),
        ("Genotype(1, normal=2)", "normal cannot stand there"),
        ("Genotype(**{})", r"\*\* cannot stand there"),
        ("Genotype(normal=[].__class__)", r"normal: '\[\].__class__' is no list"),
        ("Genotype(normal=open('x'))", r"normal: \"open\('x'\)\" is no list"),
        ("Genotype(normal=range('a'))", "is no list and no range"),
        ("Genotype(" + "(" * 9000, "not the text|not the text of a genotype"),
        ("x(" + "1," * 10000, "the text has 20002 characters"),
        ("{" + '"a":[' * 9000, "the text has|not JSON"),
        (with_(extra=1), "unknown key 'extra'; known: normal, normal_concat"),
        (with_(normal_concatt=1), "unknown key 'normal_concatt'; did you mean 'normal_concat'"),
        ({"normal": []}, "normal_concat, reduce, reduce_concat missing"),
        (with_(normal="abc"), "normal must be a list of .* got str"),
        (with_(reduce=[]), "reduce has 0 pairs; it needs 2 for each node"),
        (with_(normal=_pairs()[:7]), "normal has 7 pairs"),
        (
            with_(normal=_pairs((5, ["sepconv3x3", 0]))),
            "normal, node 2, second pair: unknown operation 'sepconv3x3'; did you mean 'sep_conv_3x3'",
        ),
        (
            with_(normal=_pairs((0, ["none", 0]))),
            "normal, node 0, first pair: 'none' is no connection",
        ),
        (with_(normal=_pairs((0, [["x"], 0]))), "node 0, first pair: unknown operation"),
        (
            with_(normal=_pairs((6, ["skip_connect", 5]))),
            "normal, node 3, first pair: input 5 is not before the node, which can read 0 to 4",
        ),
        (
            with_(normal=_pairs((1, ["skip_connect", -1]))),
            "node 0, second pair: input -1 is not before",
        ),
        (with_(normal=_pairs((1, ["skip_connect", True]))), "must be a whole number, got True"),
        (with_(normal=_pairs((1, ["skip_connect", "0"]))), "must be a whole number, got '0'"),
        (with_(normal=_pairs((3, ["skip_connect"]))), "node 1, second pair: expected"),
        (with_(normal_concat=[2, 6]), "normal_concat, position 1: 6 is no node; .* 2 to 5"),
        (with_(reduce_concat=[1, 2]), "reduce_concat, position 0: 1 is no node"),
        (with_(reduce_concat=[2, 3, 2]), "reduce_concat, position 2: node 2 is there twice"),
        (with_(reduce_concat=[]), "reduce_concat is empty"),
        (with_(reduce_concat=4), "reduce_concat must be a list or a range"),
        (with_(reduce_concat=[2.0]), "position 0: 2.0 is no node"),
        (V2.text().replace("range(2, 6)", "range(2, 10 ** 9)", 1), "is no list and no range"),
        (V2.text().replace("range(2, 6)", "range(2, 1000000000)", 1), "position 4: 6 is no node"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_malformed_is_refused_with_place_and_reason(genotype, message):
    with pytest.raises(ValueError, match=message) as error:
        Genotype.parse(genotype)
    assert str(error.value).startswith("genotype: ")


def test_reading_runs_nothing(tmp_path):
    target = tmp_path / "file"
    for attack in (
        f"Genotype(normal=open({str(target)!r}, 'w'))",
        f"Genotype(normal=[__import__('pathlib').Path({str(target)!r}).touch()])",
        f"[open({str(target)!r}, 'w')][0] or Genotype()",
    ):
        with pytest.raises(ValueError, match="genotype: "):
            Genotype.parse(attack)
    assert not target.exists()
