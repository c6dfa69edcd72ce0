"""What the mutation check of the rules rests on; all of it takes minutes: python -m tests.mutants."""

from __future__ import annotations

import pytest

from . import mutants


def test_mistakes_in_the_windows_in_which_the_budget_burns_are_noticed() -> None:
    some = {"and", "or", "5m", "30m", "1h", "6h"}
    tried, alive = mutants.all_survivors(lambda it: it.rule == "MailprobeErrorBudgetBurnFast" and it.was in some)
    assert tried >= 12
    assert alive == []


def test_what_is_no_mistake_survives() -> None:
    (rule,) = [rule for rule in mutants.rules() if rule.name == "MailprobeBlind"]
    same = mutants.Mutant(rule.name, "", 1, "", rule.text)
    wrong = same._replace(number=2, text=rule.text.replace("== 0", "== 1"))
    assert mutants.survivors([same, wrong]) == [same]


@pytest.mark.parametrize("name", ["MailprobeMailStuck", "route:mailprobe_stuck:bool"])
def test_a_rule_is_tested_by_the_alerts_that_rest_on_it(name: str) -> None:
    everything = mutants.rules()
    assert "route:mailprobe_watched:bool" in mutants.needed(name, everything)
    assert mutants.concerned(name, everything) <= {
        *("MailprobeMailStuck", "MailprobeProviderIncomingStuck", "MailprobeProviderOutgoingStuck")
    }
