"""Passwords in addresses. They are kept in the environment, which processes inherit, and shown nowhere."""

import os
import re

VARIABLE = "VSSL_TRACKING_URI"
_USER = re.compile(r"((?:://|^(?!\S*://))[^:/?#@\s]*:)(?!\d+(?:[/?#]|$))\S+@")
_QUERY = re.compile(r"([?&][^=&\s]*(?:pass|pwd|secret|token|key)[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def hidden(text: str) -> str:
    """An address, or words with addresses in them, without the passwords."""
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))


def keep(address: str) -> str:
    """The address as it may be shown and written; with its password it is kept in the environment."""
    if hidden(address) != address:
        os.environ[VARIABLE] = address
    return hidden(address)


def reveal(address: str) -> str:
    """The address as it was before `keep`, here or in the process that started this one."""
    kept = os.environ.get(VARIABLE, "")
    return kept if hidden(kept) == address else address
