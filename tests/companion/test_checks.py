"""What can be told without running anything."""

from __future__ import annotations

import pytest
from tiny_project import call, edit

from eventbook.companion.project import Project


@pytest.mark.slow
def test_a_name_that_is_two_quantities_is_found(executed: Project) -> None:
    """An override would turn both."""
    script = executed.root / "notebooks/tiny/two.py"
    edit(script, "# added to the sum\n", "# added to the sum\nsteps: int = 5  # of another kind\n")
    said = "notebooks/tiny: parameter steps: expected one quantity, one has int = 3 and two has int = 5"
    assert said in call("check").out.splitlines()
    edit(script, "steps: int = 5", "steps: int = 3")
    assert said not in call("check").out.splitlines()


@pytest.mark.slow
def test_claims_of_the_full_profile_ask_for_a_recorded_run(executed: Project) -> None:
    both = ("threshold: 4\n    profile: quick", "threshold: 4\n    profile: both")
    edit(executed.root / "notebooks/tiny/claims.yml", *both)
    said = [line for line in call("check").out.splitlines() if "full profile" in line]
    assert said == [
        "notebooks/tiny/claims.yml: 1 claims of the full profile, but no recorded run "
        "results/full/tiny.json; run 'eventbook run tiny --profile full --record'"
    ]
    executed.recorded("tiny").parent.mkdir(parents=True)
    executed.recorded("tiny").write_text('{"values": {}}')
    said = [line for line in call("check").out.splitlines() if "full profile" in line]
    assert said == [
        "notebooks/tiny/claims.yml: tiny-total: expected the value 'total' in the full profile, found none"
    ]


@pytest.mark.slow
def test_an_id_that_two_rows_share_is_found(executed: Project) -> None:
    edit(executed.root / "notebooks/tiny/claims.yml", "id: tiny-total", "id: tiny-half")
    red = call("check")
    assert red.status == 1
    assert "claims[1].id: 'tiny-half' is taken by the row on line" in red.out
