"""A recipe survives being written down, `--set` reaches every key in any order, and each mistake is one sentence."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aplysia.errors import AplysiaError, RecipeError
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import AbstractReset, HardReset, SoftReset
from aplysia.ops.surrogate import AbstractSurrogate, Sigmoid, Triangle
from aplysia.train import codec


class AbstractRule(ABC):
    @abstractmethod
    def go(self) -> None: ...


class AbstractSeededRule(AbstractRule):
    """An axis below an axis."""


@dataclass(frozen=True, kw_only=True)
class PlainRule(AbstractRule):
    def go(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class DirectFeedback(AbstractSeededRule):
    scale: float = 1.0
    bits: int | None = None
    surrogate: AbstractSurrogate = field(default_factory=Sigmoid)

    def go(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class NeedyRule(AbstractRule):
    fraction: float

    def go(self) -> None: ...


class AbstractAugmentation(ABC):
    @abstractmethod
    def go(self) -> None: ...


@dataclass(frozen=True)
class RandomCrop(AbstractAugmentation):
    padding: int = 4

    def go(self) -> None: ...


@dataclass
class RandomFlip(AbstractAugmentation):
    p: float = 0.5

    def go(self) -> None: ...


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


@dataclass(frozen=True)
class Warmup:
    epochs: int = 1
    shape: Literal["linear", "cosine"] = "linear"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str = "a"
    steps: int = 10
    rate: float = 0.1
    low: float = 0.0
    high: float = 1.0
    quick: bool = False
    widths: tuple[int, ...] = (800, 800)
    size: tuple[int, float] = (28, 1.0)
    note: str | None = None
    seed: int | None = None
    amount: int | float = 1
    data: Path = Path("d")
    mode: Mode = Mode.FAST
    warmup: Warmup | None = None
    first: Warmup = Warmup()
    rule: AbstractRule = PlainRule()
    seeded: AbstractSeededRule | None = None
    neuron: LIF = field(default_factory=LIF)
    reset: AbstractReset = field(default_factory=SoftReset)
    augment: tuple[AbstractAugmentation, ...] = ()
    derived: int = field(default=0, init=False)
    _cache: int = 0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise RecipeError("low", expected="less than high", got=str(self.low), fix="lower it")


AXES = {
    AbstractRule: __name__,
    AbstractAugmentation: __name__,
    AbstractReset: "aplysia.ops.scan",
    AbstractSurrogate: "aplysia.ops.surrogate",
}
finite = st.floats(allow_nan=False, allow_infinity=False)
resets = st.builds(SoftReset, amount=st.none() | finite) | st.builds(HardReset, value=finite)
rules = st.just(PlainRule()) | st.builds(
    DirectFeedback, scale=finite, bits=st.none() | st.integers(), surrogate=st.builds(Triangle, width=finite)
)
recipes = st.builds(
    Recipe,
    name=st.text(),
    steps=st.integers(),
    rate=finite,
    quick=st.booleans(),
    widths=st.lists(st.integers()).map(tuple),
    size=st.tuples(st.integers(), finite),
    note=st.none() | st.text(),
    amount=st.integers() | finite,
    mode=st.sampled_from(Mode),
    warmup=st.none() | st.builds(Warmup, st.integers(), st.sampled_from(["linear", "cosine"])),
    rule=rules,
    seeded=st.none() | st.builds(DirectFeedback, scale=finite),
    neuron=st.builds(LIF, leak=st.floats(0, 1), reset=resets),
    augment=st.lists(st.builds(RandomCrop, st.integers()) | st.builds(RandomFlip, finite), max_size=3).map(tuple),
)


def put(*assignments: str, to: Any = None) -> Any:
    return codec.override(to or Recipe(), list(assignments), AXES)


@settings(max_examples=60, deadline=None)
@given(recipes)
def test_what_is_written_is_read_again(recipe: Recipe) -> None:
    text = json.dumps(codec.encode(recipe, AXES), allow_nan=False)
    again = codec.decode(Recipe, json.loads(text), AXES)
    assert again == recipe
    assert type(again.amount) is type(recipe.amount)


def test_how_it_is_written() -> None:
    data = codec.encode(Recipe(rule=DirectFeedback(scale=2), augment=(RandomCrop(),)), AXES)
    assert data["rule"] == {
        "kind": "direct_feedback", "scale": 2.0, "bits": None, "surrogate": {"kind": "sigmoid", "slope": 4.0}
    }  # fmt: skip
    assert data["augment"] == [{"kind": "random_crop", "padding": 4}]
    assert data["reset"] == {"kind": "soft", "amount": None}
    assert (data["mode"], data["data"], data["size"], data["warmup"]) == ("FAST", "d", [28, 1.0], None)
    assert not {"derived", "_cache"} & set(data)


def test_a_key_left_out_takes_its_default() -> None:
    assert codec.decode(Recipe, {}, AXES) == Recipe()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"stepz": 1}, "stepz: expected a field of Recipe .* got 'stepz'; did you mean 'steps'"),
        ({"neuron": {"leek": 1}}, "neuron.leek: expected a field of LIF .* did you mean 'leak'"),
        ({"steps": 1.5}, "steps: expected int, got 1.5"),
        ({"steps": True}, "steps: expected int, got True"),
        ({"rate": True}, "rate: expected finite float, got True"),
        ({"rate": "0.1"}, "rate: expected finite float, got '0.1'"),
        ({"rate": 10**400}, "rate: expected finite float, got 1000"),
        ({"rate": float("nan")}, "rate: expected finite float, got nan"),
        ({"quick": 1}, "quick: expected bool, got 1"),
        ({"name": None}, "name: expected str, got None"),
        ({"widths": [1, "2"]}, "widths.1: expected int, got '2'"),
        ({"size": [1]}, "size: expected 2 values, got 1"),
        ({"mode": "fast"}, "mode: expected one of FAST, SLOW, got 'fast'"),
        ({"first": {"shape": "round"}}, "first.shape: expected one of linear, cosine, got 'round'"),
        ({"rule": {"scale": 1}}, r"rule: expected rule \(one of direct_feedback, needy, plain\), got"),
        ({"rule": {"kind": "direct_feedbak"}}, "rule: expected the name of a rule.*did you mean 'direct_feedback'"),
        ({"rule": {"kind": "needy"}}, "rule.fraction: expected a value, for NeedyRule has no default, got nothing"),
        ({"seeded": {"kind": "plain"}}, "seeded: expected the name of a seeded_rule.*got 'plain'"),
        ({"neuron": {"leak": 7}}, r"neuron.leak: expected a number in \[0, 1\]"),
        ({"low": 5}, "low: expected less than high"),
        ([], "recipe: expected Recipe, got \\[\\]"),
    ],
)
def test_reading_is_strict(data: Any, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        codec.decode(Recipe, data, AXES)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rate": float("inf")}, "rate: expected finite float, got inf"),
        ({"steps": 2.0}, "steps: expected int, got 2.0"),
        ({"rule": None}, "rule: expected rule"),
    ],
)
def test_writing_is_strict(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        codec.encode(dataclasses.replace(Recipe(), **change), AXES)


def test_types_that_cannot_be_written_down() -> None:
    @dataclass
    class Odd:
        table: dict[str, int] = field(default_factory=dict)

    class Bare(AbstractRule):
        def go(self) -> None: ...

    @dataclass
    class Holder:
        rule: AbstractRule = field(default_factory=Bare)

    @dataclass
    class Kind(AbstractRule):
        kind: str = "x"

        def go(self) -> None: ...

    with pytest.raises(RecipeError, match=r"table: expected a field type that can be written down.*dict\[str, int\]"):
        codec.encode(Odd(), AXES)
    with pytest.raises(RecipeError, match=r"rule: expected a dataclass, got Bare; put @dataclass"):
        codec.encode(Holder(), AXES)
    with pytest.raises(RecipeError, match="rule: expected no field of the name 'kind', got Kind; rename"):
        codec.encode(Holder(Kind()), AXES)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("steps=1_000", "steps", 1000),
        ("steps=1e3", "steps", 1000),
        ("steps= -4 ", "steps", -4),
        ("rate=1e-3", "rate", 1e-3),
        ("rate=3", "rate", 3.0),
        ("quick=yes", "quick", True),
        ("quick=0", "quick", False),
        ("name=a=b, c", "name", "a=b, c"),
        ("name=none", "name", "none"),
        ("note=none", "note", None),
        ("note=null and void", "note", "null and void"),
        ("seed=Null", "seed", None),
        ("seed=5", "seed", 5),
        ("amount=3", "amount", 3),
        ("amount=3.5", "amount", 3.5),
        ("amount=1e3", "amount", 1000.0),
        ("widths=10,20,30", "widths", (10, 20, 30)),
        ("widths=(10,)", "widths", (10,)),
        ("widths=none", "widths", ()),
        ("size=32,0.5", "size", (32, 0.5)),
        ("data=~/x", "data", Path.home() / "x"),
        ("mode=slow", "mode", Mode.SLOW),
        ("first.shape=cosine", "first", Warmup(shape="cosine")),
        ("warmup.epochs=3", "warmup", Warmup(3)),
        ("rule=direct_feedback", "rule", DirectFeedback()),
        ("seeded=direct_feedback", "seeded", DirectFeedback()),
        ("seeded=none", "seeded", None),
        ("reset=hard", "reset", HardReset()),
        ("reset=hard_reset", "reset", HardReset()),
        ("augment=random_crop, random_flip", "augment", (RandomCrop(), RandomFlip())),
        ("augment=none", "augment", ()),
    ],
)
def test_one_assignment(text: str, key: str, value: Any) -> None:
    changed = put(text)
    got = getattr(changed, key)
    assert got == value
    assert type(got) is type(value)
    assert dataclasses.replace(changed, **{key: getattr(Recipe(), key)}) == Recipe()


def test_order_does_not_matter() -> None:
    given_ = ["rule=direct_feedback", "rule.scale=0.3", "rule.surrogate=triangle", "rule.surrogate.width=2"]
    for order in itertools.permutations(given_):
        assert put(*order).rule == DirectFeedback(scale=0.3, surrogate=Triangle(width=2.0))


def test_a_new_kind_starts_from_its_defaults_and_the_same_kind_stays() -> None:
    recipe = Recipe(rule=DirectFeedback(scale=9.0), augment=(RandomFlip(0.1), RandomCrop(7)))
    assert put("rule=plain", to=recipe).rule == PlainRule()
    assert put("rule=direct_feedback", to=recipe).rule is recipe.rule
    assert put("rule=direct_feedback", "rule.bits=4", to=recipe).rule == DirectFeedback(scale=9.0, bits=4)
    assert put("augment=random_crop,random_flip", to=recipe).augment == (RandomCrop(7), RandomFlip(0.1))
    assert put("augment.1.padding=2", to=recipe).augment == (RandomFlip(0.1), RandomCrop(2))
    assert put("augment=random_crop", "augment.0.padding=2").augment == (RandomCrop(2),)


def test_a_field_without_default_can_come_with_its_kind() -> None:
    assert put("rule.fraction=0.1", "rule=needy").rule == NeedyRule(fraction=0.1)


def test_checks_see_only_the_result() -> None:
    assert put("low=5", "high=6").low == 5.0
    with pytest.raises(AplysiaError, match="low: expected less than high"):
        put("low=5")
    with pytest.raises(AplysiaError, match=r"neuron.leak: expected a number in \[0, 1\]"):
        put("neuron.leak=7")


def test_a_user_file_as_a_kind(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import torch\n"
        "from aplysia.ops.surrogate import AbstractSurrogate\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Mine(AbstractSurrogate):\n"
        "    depth: int | None = 2\n"
        "    def derivative(self, x: torch.Tensor) -> torch.Tensor: return x\n"
    )
    recipe = put("neuron.surrogate.depth=3", f"neuron.surrogate={file}")
    assert vars(recipe.neuron.surrogate) == {"depth": 3}
    data = codec.encode(recipe, AXES)
    assert data["neuron"]["surrogate"] == {"kind": f"{file}:Mine", "depth": 3}
    assert codec.decode(Recipe, data, AXES) == recipe


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["steps"], "--set steps: expected key=value, got no '='"),
        (["stepz=1"], "stepz: expected a field of Recipe .*; did you mean 'steps'"),
        (["leak=1"], "leak: .*; did you mean 'neuron.leak'"),
        (["=1"], "got ''"),
        (["neuron.leek=1"], "neuron.leek: expected a field of LIF .*; did you mean 'leak'"),
        (["rule.scale=1"], "rule.scale: expected a field of PlainRule, which has none, got 'scale'; leave it out"),
        (
            ["rule=direct_feedback", "rule.fraction=1"],
            r"rule.fraction: expected a field of DirectFeedback \(scale, bits, surrogate\), got 'fraction'",
        ),
        (["steps=1", "steps=2"], "steps: expected one value, got '1' and '2'; keep one"),
        (["steps=many"], "steps: expected int, got 'many'"),
        (["steps=1.5"], "steps: expected int, got '1.5'"),
        (["steps=inf"], "steps: expected int, got 'inf'"),
        (["steps="], "steps: expected int, got ''"),
        (["seed=x"], "seed: expected int or none, got 'x'"),
        (["rate=fast"], "rate: expected finite float, got 'fast'"),
        (["rate=nan"], "rate: expected finite float, got nan"),
        (["rate=1e999"], "rate: expected finite float, got inf"),
        (["quick=maybe"], "quick: expected bool, got 'maybe'"),
        (["widths=1,x"], "widths.1: expected int, got 'x'"),
        (["size=1,2,3"], "size: expected 2 values, got 3"),
        (["mode=medium"], "mode: expected one of FAST, SLOW, got 'medium'"),
        (["first=linear"], "first: expected Warmup, got 'linear'"),
        (["rule=direct"], "rule: expected the name of a rule.*did you mean 'direct_feedback'"),
        (["rule=needy"], "rule.fraction: expected a value, for NeedyRule has no default"),
        (["steps.x=1"], "steps.x: expected steps to have fields, got steps=10; end the key at steps"),
        (["steps=3", "steps.x=1"], "steps.x: expected steps to have fields, got steps=3"),
        (["seeded.scale=1"], "seeded.scale: expected seeded to have fields, got seeded=none; set seeded too"),
        (["augment.0.padding=1"], "augment.0: expected a position in augment, which holds 0, got '0'"),
        (["augment=random_crop", "augment.0=random_flip"], "augment.0: expected one value, got one in augment too"),
        (["derived=1"], "derived: expected a field of Recipe"),
        (["_cache=1"], "_cache: expected a field of Recipe"),
        (["rule=nowhere.py"], "nowhere.py: expected a Python file, got no such file"),
    ],
)
def test_sentences(texts: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        put(*texts)


@settings(max_examples=40, deadline=None)
@given(recipes)
def test_every_row_that_is_described_can_be_set(recipe: Recipe) -> None:
    rows = codec.describe(recipe, AXES)
    keys = [key for key, _, _ in rows]
    assert len(set(keys)) == len(keys)
    for key, value, _ in rows:
        if key != "note":  # text that reads as none is none
            assert put(f"{key}={value}", to=recipe) == recipe


def test_describe() -> None:
    rows = {key: rest for key, *rest in codec.describe(Recipe(augment=(RandomCrop(),)), AXES)}
    assert rows["seed"] == ["none", "int or none"]
    assert rows["widths"] == ["800,800", "any number of (int)"]
    assert rows["size"] == ["28,1.0", "(int, float)"]
    assert rows["rule"] == ["plain", "rule (one of direct_feedback, needy, plain)"]
    assert rows["augment"][0] == "random_crop"
    assert rows["augment.0.padding"] == ["4", "int"]
    assert rows["neuron.surrogate.slope"] == ["4.0", "float"]
    assert rows["mode"] == ["FAST", "one of FAST, SLOW"]
    assert rows["data"] == ["d", "path"]
    assert "neuron" not in rows
    assert not {"derived", "_cache"} & set(rows)
