"""Keys of masking: derived from the policy's secret, one for each use, class and tenant.

HKDF-SHA256 (RFC 5869) with the use in its salt and tenant, key id and class in its info, so that a key that
leaks from one class opens no other and the same secret never serves two algorithms.
"""

from __future__ import annotations

from forebay import secrets
from forebay.errors import ConfigError
from forebay.mask.policy import Policy

_MIN_SECRET_BYTES = 16
TRIAL_SECRET = b"forebay: known to all, protects nothing"  # for a policy's tests and checks, never for data


class Keyring:
    """The present and previous keys of a policy. Reads each secret once, when it is first needed.

    Parameters
    ----------
    policy : whose keys
    trial : use a secret that everybody knows instead of the real one, to try a policy without its secrets
    """

    def __init__(self, policy: Policy, *, trial: bool = False) -> None:
        keys = policy.options.keys
        if keys is None:
            raise ConfigError("the policy has no `keys`", place=str(policy.path))
        self._policy, self._trial = policy, trial
        self.id, self._tenant = keys.id, keys.tenant
        self._references = {keys.id: keys.secret} | {key.id: key.secret for key in keys.previous}
        self.bridges = tuple(key.id for key in keys.previous if key.bridge)
        self._secrets: dict[str, bytes] = {}
        self._derived: dict[tuple[str, str, str], bytes] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of all keys, the present one first."""
        return tuple(self._references)

    def check(self) -> None:
        """Read what masking needs: the present secret and those of bridges. Raises ConfigError."""
        for key_id in (self.id, *self.bridges):
            self._secret(key_id)

    def derive(self, use: str, class_name: str, key_id: str = "") -> bytes:
        """Return 32 bytes for a use (`token`, `fpe`, `encrypt`) of a class. Raises ConfigError."""
        wanted = use, class_name, key_id or self.id
        if wanted not in self._derived:
            # 7 MB of memory: only where a policy needs keys
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            info = "\0".join((self._tenant, wanted[2], class_name)).encode()
            kdf = HKDF(algorithm=SHA256(), length=32, salt=f"forebay {use} v1".encode(), info=info)
            self._derived[wanted] = kdf.derive(self._secret(wanted[2]))
        return self._derived[wanted]

    def _secret(self, key_id: str) -> bytes:
        if self._trial:
            return TRIAL_SECRET
        if key_id not in self._secrets:
            value = secrets.resolve(self._references[key_id], self._policy.path.parent)
            if len(value) < _MIN_SECRET_BYTES:
                raise ConfigError(
                    f"the secret of key `{key_id}` has {len(value)} bytes, at least {_MIN_SECRET_BYTES} are"
                    " needed",
                    place=f"{self._policy.path}: keys",
                    hint="forebay keys rotate POLICY makes a good one",
                )
            self._secrets[key_id] = value
        return self._secrets[key_id]
