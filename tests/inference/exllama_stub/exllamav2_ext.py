"""Stands where ExLlamaV2's compiled extension would, so that the package can be imported without a GPU or a compiler.

It does nothing: whatever is called raises.
"""

from collections.abc import Callable
from typing import Any


def __getattr__(name: str) -> Callable[..., Any]:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise NotImplementedError(f"the stub of ExLlamaV2's extension has no {name}")

    return refuse
