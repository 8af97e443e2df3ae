"""Turn encrypted values back: for whoever has the policy's secrets."""

from __future__ import annotations

import json
import re
from collections import Counter

from forebay.config.operators import Fpe
from forebay.errors import ConfigError, MaskError
from forebay.mask import ciphers
from forebay.mask.forms import Forms
from forebay.mask.keyring import Keyring
from forebay.mask.policy import Policy


class Revealer:
    """Opens what `encrypt` closed, wherever it stands in a line, and whole values that `fpe` changed.

    Attributes
    ----------
    counts : values opened by class, and `failed`
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._keyring = Keyring(policy)
        self._keyring.check()
        self._forms = Forms(self._keyring)
        self.counts: Counter[str] = Counter()

    def line(self, text: str) -> str:
        """Return a line with every encrypted value in it opened; one that cannot be opened stays."""
        if ciphers.SEALED.search(text) is None:
            return text
        escape = _is_json(text)

        def opened(match: re.Match[str]) -> str:
            try:
                value = ciphers.unseal(self._keyring, match[0]).decode("utf-8", "replace")
            except (MaskError, ConfigError):  # a previous secret that is not here closes its own values only
                self.counts["failed"] += 1
                return match[0]
            self.counts[match[3]] += 1
            return json.dumps(value, ensure_ascii=False)[1:-1] if escape else value

        return ciphers.SEALED.sub(opened, text)

    def form(self, class_name: str, text: str, key_id: str = "") -> str:
        """Return a value that `fpe` changed as it was.

        Raises
        ------
        ConfigError
            The policy has no rule `fpe` for the class.
        MaskError
            The text has not the form of the class.
        """
        rules = {str(name): rule for name, rule in self._policy.options.classes.items()}
        rule = rules.get(class_name)
        if not isinstance(rule, Fpe):
            raise ConfigError(f"the policy does not encrypt `{class_name}` with `fpe`")
        value = self._forms.decrypt(rule, class_name, text, key_id)
        self.counts[class_name] += 1
        return value


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
