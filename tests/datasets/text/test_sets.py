"""The text that is here comes through the same door as originals."""

from eventbook.datasets import load_state_of_the_union, load_text


def test_the_door_leads_to_the_addresses():
    whole, few = load_state_of_the_union(), load_text("state_of_the_union", words=2_000)
    assert load_text("state_of_the_union").train.tolist() == whole.train.tolist()
    assert few.vocabulary == whole.vocabulary[:2_002]
    assert (few.test == whole.test).mean() == (whole.test < 2_002).mean()
