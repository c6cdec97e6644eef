"""Which of SSH's algorithms we offer and accept: ours, as far as the user's own settings leave them.

The settings of ssh only take away here. What they leave and we lack is for the ssh program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from halfopen.errors import ErrorCode, HostError

USE_OPENSSH = 'transport = "openssh" for this host, or --transport openssh'


class Allowed(Struct, frozen=True):
    """What the settings leave. `names`: option -> algorithms, all where it is absent. `rsa_bits`: the fewest."""

    names: Mapping[str, frozenset[str]] = {}
    rsa_bits: int = 1024

    def has(self, option: str, name: str) -> bool:
        """Whether an algorithm is left."""
        return option not in self.names or name in self.names[option]

    def problem(self, option: str, kind: str, key: bytes) -> str | None:
        """Why a key must not be used, None if it may: by the algorithms of its type, and its length."""
        if not any(self.has(option, name) for name in signatures(kind)):
            return f"{OPTIONS[option]} leaves it out"
        if kind == "ssh-rsa" and rsa_bits(key) < self.rsa_bits:
            return f"{rsa_bits(key)} bits, and RequiredRSASize is {self.rsa_bits}"
        return None


def allowed(options: Mapping[str, Sequence[str]], rsa_bits: int) -> Allowed:
    """Options of ssh by lower-case name -> what they leave."""
    given = {OLD_NAMES.get(option, option): values[0] for option, values in options.items() if values}
    names = {option: frozenset(given[option].split(",")) for option in OPTIONS if option in given}
    return Allowed(names, rsa_bits)


def relative(options: Mapping[str, Sequence[str]]) -> str | None:
    """The option whose list only changes that of ssh (+, -, ^), so that only ssh can tell what it leaves."""
    given = {OLD_NAMES.get(option, option): values[0] for option, values in options.items() if values}
    # A pattern, as in `-ssh-rsa*`, stands only behind such a sign.
    return next((OPTIONS[option] for option in OPTIONS if given.get(option, "")[:1] in {"+", "-", "^"}), None)


def disabled(settings: Allowed) -> dict[str, list[str]]:
    """What the library must not use whatever it prefers; the signatures of an RSA key can be said only here."""
    left_out = [name for name in signatures("ssh-rsa") if not settings.has("pubkeyacceptedalgorithms", name)]
    return {**WEAK, "pubkeys": [*WEAK["pubkeys"], *left_out]}


def restrict(security: Any, settings: Allowed, known: Iterable[str]) -> None:
    """Sets what a paramiko transport offers; `known` types of host keys come first. HostError where nothing is left."""
    first = [name for kind in known for name in signatures(kind)]
    for option, attribute in SECURITY.items():
        ours = [name for name in getattr(security, attribute) if option != "ciphers" or name in CIPHERS]
        left = [name for name in ours if settings.has(option, name)]
        if not left:
            raise HostError(
                ErrorCode.UNSUPPORTED,
                f"its settings leave no {OPTIONS[option]} but those that only ssh has",
                USE_OPENSSH,
            )
        setattr(security, attribute, sorted(left, key=lambda name: name not in first))


def signatures(kind: str) -> tuple[str, ...]:
    """The algorithms that a key of this type signs with."""
    return SIGNATURES.get(kind, (kind,))


def rsa_bits(key: bytes) -> int:
    """Length of the modulus, the third field of an RSA key (RFC 4253 section 6.6); 0 where it is not there."""
    for _ in range(2):
        key = key[4 + int.from_bytes(key[:4], "big") :]
    return int.from_bytes(key[4 : 4 + int.from_bytes(key[:4], "big")], "big").bit_length()


ALL = Allowed()
OPTIONS = {
    "kexalgorithms": "KexAlgorithms",
    "ciphers": "Ciphers",
    "macs": "MACs",
    "hostkeyalgorithms": "HostKeyAlgorithms",
    "pubkeyacceptedalgorithms": "PubkeyAcceptedAlgorithms",
}
OLD_NAMES = {"pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms"}  # before OpenSSH 8.5
SECURITY = {"kexalgorithms": "kex", "ciphers": "ciphers", "macs": "digests", "hostkeyalgorithms": "key_types"}
"""Option -> attribute of paramiko's SecurityOptions."""

CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
WEAK = {
    "macs": ["hmac-md5", "hmac-md5-96", "hmac-sha1-96", "hmac-sha1"],
    "keys": ["ssh-rsa", "ssh-dss"],
    "pubkeys": ["ssh-rsa", "ssh-dss"],
    "kex": ["diffie-hellman-group1-sha1", "diffie-hellman-group-exchange-sha1", "diffie-hellman-group14-sha1"],
}
