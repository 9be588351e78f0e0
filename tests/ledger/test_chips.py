"""Chip profiles: every number has a source, every mistake in a file has its sentence, nothing is paid for twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from aplysia.errors import RecipeError
from aplysia.ledger.amount import Book, Phase, read_book
from aplysia.ledger.chip import CERTAINTIES, KINDS, chips, find_chip, read_chip
from aplysia.ledger.energy import energy

MINE = """
name = "mine"
summary = "a chip of mine"

[operation.ac]
value = 2
low = 1
high = 4
unit = "nJ"
kind = "measured"
certainty = "A"
source = "my bench"
"""

SHIPPED = {
    "counts-only",
    "generic-45nm-fp32",
    "generic-45nm-int8",
    "loihi1-davies",
    "loihi1-calibrated",
    "reckon",
    "odin",
    "spinnaker1",
    "rpu-projected",
    "reram-isaac",
}


def test_the_chips_that_ship() -> None:
    assert set(chips()) == SHIPPED
    assert next(iter(chips())) == "counts-only"
    assert not chips()["counts-only"].operations


@pytest.mark.parametrize("name", sorted(SHIPPED - {"counts-only"}))
def test_every_constant_has_its_source_and_its_range(name: str) -> None:
    chip = chips()[name]
    assert chip.operations
    for constant in chip.operations.values():
        assert len(constant.source) > 10
        assert 0 < constant.low <= constant.value <= constant.high
        assert constant.kind in KINDS
        assert constant.certainty in CERTAINTIES


def test_loihi2_is_refused_with_the_reason() -> None:
    with pytest.raises(RecipeError, match="nobody has published"):
        find_chip("loihi2")


@pytest.mark.parametrize(
    ("line", "instead", "sentence"),
    [
        ('source = "my bench"', "", "the key source"),
        ('source = "my bench"', 'source = " "', "one without a source is no number"),
        ("low = 1", "low = 3", "low ≤ value ≤ high"),
        ('unit = "nJ"', 'unit = "J"', "fJ or pJ or nJ"),
        ('certainty = "A"', 'certainty = "D"', "A or A- or B"),
        ('kind = "measured"', 'kind = "guessed"', "circuit estimate"),
        ("[operation.ac]", "[operation.macs]", "did you mean 'mac'"),
        ("value = 2", 'value = "2"', "a number ≥ 0"),
        ("value = 2", "value = nan", "a number ≥ 0"),
        ('name = "mine"', 'name = "mine"\ncolour = 1', "a known key"),
        ('name = "mine"', "", "the key name"),
        ('name = "mine"', "name =", "TOML"),
        ('name = "mine"', 'name = "mine"\nweight_bits = 0', "a whole number ≥ 1"),
        ('name = "mine"', 'name = "mine"\nhops = -1', "hops"),
        ("high = 4", 'high = 4\nincludes = ["lunch"]', "a list of read, write, mac, ac"),
    ],
)
def test_each_mistake_in_a_file_has_its_sentence(line: str, instead: str, sentence: str) -> None:
    assert line in MINE
    with pytest.raises(RecipeError, match=sentence) as caught:
        read_chip(MINE.replace(line, instead), "mine.toml")
    assert str(caught.value).startswith("mine.toml")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    constant = find_chip(str(path)).price("ac")
    assert constant is not None
    assert (constant.low, constant.value, constant.high) == (1000, 2000, 4000)
    with pytest.raises(RecipeError, match="not there"):
        find_chip(str(tmp_path / "other.toml"))
    with pytest.raises(RecipeError, match="did you mean 'loihi1-davies'"):
        find_chip("loihi1-davis")


def book(phase: Phase = Phase.FORWARD, **counts: int | None) -> Book:
    made = Book()
    made.charge("dense1", phase, **counts)
    return made


def test_energy_by_hand_with_its_range_phases_and_layers() -> None:
    made = book(acs=10, forward_reads=10, updates=4, spikes=2, address_bits=6)
    made.charge("dense2", Phase.FORWARD, acs=1, forward_reads=1)
    found = energy(made, chips()["loihi1-davies"], samples=2)
    # 23.6 a synaptic operation with its fetch; 81 (52) an update; 1.7 and one hop of 3.5 (3 to 4) a spike.
    assert found.value == pytest.approx((11 * 23.6 + 4 * 81 + 2 * 5.2) / 2)
    assert found.low == pytest.approx((11 * 23.6 + 4 * 52 + 2 * 4.7) / 2)
    assert found.high == pytest.approx((11 * 23.6 + 4 * 81 + 2 * 5.7) / 2)
    assert not found.lower_bound
    assert found.by_layer["dense2"].value == pytest.approx(23.6 / 2)
    assert found.by_phase[Phase.FORWARD].value == pytest.approx(found.value)


def test_a_fetch_is_paid_once_and_only_where_the_price_holds_it() -> None:
    made = book(macs=10, forward_reads=10)
    generic, crossbar = (energy(made, chips()[name]) for name in ("generic-45nm-fp32", "reram-isaac"))
    assert generic.value == pytest.approx(10 * 4.6 + 10 * 50)
    assert crossbar.value == pytest.approx(10 * 0.008)
    back = energy(book(Phase.ERROR, macs=10, feedback_reads=10), chips()["reram-isaac"])
    assert back.value == pytest.approx(10 * 0.008)


def test_a_learning_update_is_paid_once_for_each_pairing() -> None:
    davies = chips()["loihi1-davies"]
    paired = energy(book(Phase.UPDATE, acs=30, macs=5, forward_reads=20, forward_writes=20), davies)
    assert (paired.value, paired.lower_bound) == (35 * 120.0, False)
    pulses = energy(book(Phase.UPDATE, forward_writes=7), davies)
    assert pulses.value == 7 * 120.0
    elsewhere = energy(book(Phase.UPDATE, acs=30, forward_reads=20, forward_writes=20), chips()["reram-isaac"])
    assert elsewhere.value == pytest.approx(30 * 0.008 + 20 * 0.008 + 20 * 31)


def test_what_has_no_price_or_no_count_makes_a_lower_bound() -> None:
    found = energy(book(macs=1, acs=1, forward_reads=2), chips()["loihi1-davies"])
    assert found.lower_bound
    assert set(found.unknown) == {"mac", "forward_read"}
    assert found.value == 23.6
    uncounted = energy(book(acs=None, forward_reads=None), chips()["reckon"])
    assert uncounted.lower_bound
    assert uncounted.value is None
    none = energy(book(acs=5, forward_reads=5), chips()["counts-only"])
    assert (none.value, none.lower_bound) == (None, True)


def test_words_are_as_wide_as_the_chip_stores_them() -> None:
    text = MINE.replace("operation.ac", "operation.bit").replace('name = "mine"', 'name = "mine"\nweight_bits = 8')
    chip = read_chip(text, "mine.toml")
    # Three words of 32 bits, and five signs of one.
    assert energy(book(Phase.TRANSPORT, words=3, bits=3 * 32 + 5), chip).value == (3 * 8 + 5) * 2000
    narrow = energy(book(Phase.TRANSPORT, words=3, bits=3 * 4), chip)
    assert narrow.value == 3 * 4 * 2000


def test_energies_add_up_and_entries_of_a_file_cost_the_same() -> None:
    made = book(acs=10, forward_reads=10, updates=4)
    chip = chips()["spinnaker1"]
    twice = energy(made, chip) + energy(made, chip)
    assert twice.value == pytest.approx(2 * (10 * 13_300 + 4 * 26_000))
    assert energy(read_book(made.as_json()), chip) == energy(made, chip)


def test_one_transport_against_one_learning_update() -> None:
    """What docs/ledger.md says in a sentence."""
    davies, calibrated = chips()["loihi1-davies"], chips()["loihi1-calibrated"]
    sent = book(Phase.TRANSPORT, words=1, bits=32)
    assert energy(sent, davies).value == pytest.approx(5.2)
    assert energy(sent, calibrated).value == pytest.approx(114.6)
    assert energy(book(Phase.UPDATE, forward_writes=1), davies).value == 120.0
