"""SCRAM-SHA-256 verifiers, which PostgreSQL stores instead of passwords (RFC 5802, RFC 7677).

They are made outside the server, which never receives the password, in the format of
``pg_authid.rolpassword``. The same password and salt result in the same text, so a comparison of
texts shows whether a role has a password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import stringprep
import unicodedata
from typing import Final

from ktrdr.secret import Secret

# The values of PostgreSQL.
_ITERATIONS: Final = 4096
_SALT_LENGTH: Final = 16
_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def make_verifier(user: Secret, password: Secret, *, key: Secret) -> Secret:
    """Return the verifier of a role's password.

    Args:
        user: The role's name.
        password: The role's password.
        key: Key for the salt. The server sends the salt to every client that tries to log in. A
            salt without a key would help to guess the password.
    """
    text = f"{user.reveal()}\0{password.reveal()}".encode()
    salt = hmac.digest(key.reveal().encode(), b"ktrdr scram salt\0" + text, "sha256")
    return make_verifier_with_salt(password, salt[:_SALT_LENGTH], _ITERATIONS)


def make_verifier_with_salt(password: Secret, salt: bytes, iterations: int) -> Secret:
    """Return the verifier of a password with a given salt."""
    salted = hashlib.pbkdf2_hmac("sha256", prepare_password(password.reveal()), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return Secret(f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored)}:{_base64(server)}")


def prepare_password(password: str) -> bytes:
    """Normalise a password as PostgreSQL and its clients do.

    This is SASLprep (RFC 4013), except that PostgreSQL looks for prohibited characters before it
    normalises. A password with one of them, or of ASCII alone, stays unchanged.
    """
    if not password.isascii():
        mapped = "".join(_map_character(character) for character in password)
        if mapped and _is_allowed(mapped):
            return unicodedata.normalize("NFKC", mapped).encode()
    return password.encode()


def _map_character(character: str) -> str:
    if stringprep.in_table_c12(character):
        return " "
    return "" if stringprep.in_table_b1(character) else character


def _is_allowed(text: str) -> bool:
    if any(is_prohibited(character) for character in text for is_prohibited in _PROHIBITED):
        return False
    if not any(stringprep.in_table_d1(character) for character in text):
        return True
    # Text that is written from right to left must be so as a whole.
    ends_right_to_left = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends_right_to_left and not any(stringprep.in_table_d2(character) for character in text)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
