"""An earlier run's results: what is tried again, and what counts without."""

import json
from pathlib import Path

from tests.mutants.__main__ import write
from tests.mutants.earlier import Earlier
from tests.mutants.judge import Judged
from tests.mutants.rooms import Room
from tests.mutants.runner import Result
from tests.mutants.sites import sites

ROOM = Room("billing", ("price.py",), ())
SOURCE = """def price(tokens, rate):
    if tokens < 1 and rate < 1:
        return 0
    return tokens * rate
"""


def test_only_survivors_are_tried_again_where_they_still_stand(tmp_path: Path) -> None:
    (tmp_path / "price.py").write_text(SOURCE)
    found = list(sites(tmp_path, "price.py"))
    outcomes = ["survived", "killed", "hung", "unsure"]
    results = [Result(site, "billing", Judged(outcome), 1.0) for site, outcome in zip(found, outcomes, strict=False)]  # type: ignore[arg-type]
    write(results, tmp_path / "build", Earlier())
    file = tmp_path / "build" / "results.jsonl"

    earlier = Earlier.read(file)
    assert [line["outcome"] for line in earlier.killed] == ["killed", "hung"]
    again = [site for site, _ in earlier.survivors(tmp_path, [ROOM])]
    assert sorted(site.diff for site in again) == sorted((found[0].diff, found[3].diff))

    known = {("price.py", found[0].diff)}
    assert [site.diff for site, _ in Earlier.read(file, known).survivors(tmp_path, [ROOM])] == [found[3].diff]

    write([Result(found[0], "billing", Judged("killed"), 1.0)], tmp_path / "build", earlier)
    now = [json.loads(line)["outcome"] for line in file.read_text().splitlines()]
    assert sorted(now) == ["hung", "killed", "killed"]

    (tmp_path / "price.py").write_text(SOURCE.replace("tokens", "units"))
    assert list(earlier.survivors(tmp_path, [ROOM])) == []
