"""`make mutants`: small bugs put into a copy of the tree, one at a time, and whether the tests of that room notice.

`operators.py` and `sites.py` say which bugs, `rooms.py` which tests, `worker.py` runs them in a `copy.py` of the tree,
`judge.py` says whether they noticed, `known.py` reads `docs/mutants.md`, `__main__.py` draws the sample, reports, and
writes what survived. The tree itself is never changed.
"""
