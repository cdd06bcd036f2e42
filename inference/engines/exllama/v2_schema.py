"""Answers that must fit a JSON schema: lm-format-enforcer says which tokens may come next, ExLlamaV2 picks among them.

The package's own filter for ExLlamaV2 is for older versions of it, so this one is ours.
"""

import importlib
import importlib.util
import json
import logging
from typing import Any

from inference.engines.exllama.v2_vocabulary import Vocabulary
from inference.protocol import BadRequest

ENFORCER = "lmformatenforcer"

logger = logging.getLogger(__name__)


class Schemas:
    """Makes filters for one model. Making one of these looks at every token once, which takes a while."""

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        self._enforcer: Any = importlib.import_module(ENFORCER)
        logging.getLogger().addFilter(without_text)
        self._base = importlib.import_module("exllamav2.generator.filters").ExLlamaV2Filter
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        special = set(tokenizer.extended_id_to_piece)
        words = [
            (token, piece, piece.startswith(" "))
            for token, piece in enumerate(tokenizer.get_id_to_piece_list())
            # It would allow line breaks and the like inside of strings, where JSON has none.
            if piece and token not in special and piece.isprintable()
        ]
        self._data = self._enforcer.TokenEnforcerTokenizerData(
            words,
            vocabulary.decode,
            vocabulary.ends,
            False,
            vocabulary.size,
        )

    @staticmethod
    def installed() -> bool:
        return importlib.util.find_spec(ENFORCER) is not None

    def filter(self, schema: str, written: str) -> Any:
        """An `ExLlamaV2Filter` for an answer of which the text `written` is there already. Raises `BadRequest`."""
        try:
            parser = self._enforcer.JsonSchemaParser(json.loads(schema))
            made = _filter(self._base)(None, self._tokenizer)
            made.ends = self._vocabulary.ends
            made.enforce(
                self._enforcer.TokenEnforcer(self._data, parser), self._vocabulary.encode(written, control=False)
            )
        except Exception as error:  # It has no error type of its own for a schema that it cannot read.
            raise BadRequest(f"the JSON schema cannot be used: {error}") from error
        return made


def without_text(record: logging.LogRecord) -> bool:
    """Whether to log it, which is always: but where the package would write down a whole answer, not the answer."""
    if "Prefix: '" in str(record.msg):
        record.msg = "lm-format-enforcer knows no way on in an answer"
    return True


def _filter(base: Any) -> Any:
    class SchemaFilter(base):  # type: ignore[misc]
        """Allows only the tokens that lead on to text that fits. `ends` are the tokens that end an answer."""

        ends: list[int]

        def enforce(self, enforcer: Any, written: list[int]) -> None:
            self._enforcer, self._tokens = enforcer, []
            for token in written:  # It goes from one token to the next, never over several at once.
                self._allowed()
                self._tokens.append(token)
            self._allowed()

        def begin(self, prefix_str: str) -> None:
            pass

        def feed(self, token: Any) -> None:
            self._tokens.append(int(token[0][0]))

        def next(self) -> tuple[list[int], list[int]]:
            # Where it knows no way on, the answer ends. An error here would end everybody's answers.
            try:
                return self._allowed() or self.ends, []
            except Exception:
                logger.exception("an answer's schema can be followed no further")
                return self.ends, []

        def use_background_worker(self) -> bool:
            return True

        def _allowed(self) -> list[int]:
            return sorted(self._enforcer.get_allowed_tokens(self._tokens).allowed_tokens)

    return SchemaFilter
