"""A scenario can be written, sent, and read again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.errors import ConfigError
from headrace.testing.simulation.notation import read, written
from headrace.testing.simulation.scenario import Refusal, scenario_of


def test_every_scenario_is_equal_when_it_is_read() -> None:
    # Another seed, so that everything differs and has to be written.
    for seed in range(150):
        scenario = replace(scenario_of(seed), seed=seed + 1)
        assert read(written(scenario), seed + 1) == scenario


def test_what_a_seed_draws_needs_no_words() -> None:
    assert written(scenario_of(5)) == "{}"
    assert read("{}", 5) == scenario_of(5)


def test_the_seed_may_stand_in_the_text() -> None:
    assert read('{"seed": 5, "records": 2}') == replace(scenario_of(5), records=2)


def test_lists_are_replaced_whole() -> None:
    text = '{"refusals": [{"phase": "stop", "code": "ILLEGAL_GENERATION"}], "deeds": []}'
    assert read(text, 5).refusals == (Refusal("stop", "ILLEGAL_GENERATION"),)
    assert read(text, 5).deeds == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ("[]", "a JSON object"),
        ('{"recrods": 1}', "records"),
        ('{"records": "many"}', "such as"),
        ('{"records": -1}', "records"),
        ('{"faults": {"commit_slo": 1}}', "commit_slow"),
        ('{"protocol": "modern"}', "protocol"),
        ('{"deeds": {}}', "a list of objects"),
    ],
)
def test_what_is_wrong_in_a_text_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(text, 1)
