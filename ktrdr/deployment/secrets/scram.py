"""What PostgreSQL keeps of a password, made outside the server, so that it never sees the password.

A verifier of SCRAM-SHA-256 (RFC 5802, RFC 7677) in the form of ``pg_authid.rolpassword``. The same
password and salt make the same text, so that comparing it tells whether a role has a password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import stringprep
import unicodedata
from typing import Final

from ktrdr.secret import Secret

# PostgreSQL's own figures.
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


def verifier(user: Secret, password: Secret, *, key: Secret) -> Secret:
    """The verifier of a role's password.

    Args:
        user: The role's name.
        password: Its password.
        key: What the salt is made with. The server tells the salt to whoever asks to log in, so
            that without a key it would help to guess the password.
    """
    text = f"{user.reveal()}\0{password.reveal()}".encode()
    salt = hmac.digest(key.reveal().encode(), b"ktrdr scram salt\0" + text, "sha256")
    return verifier_with(password, salt[:_SALT_LENGTH], _ITERATIONS)


def verifier_with(password: Secret, salt: bytes, iterations: int) -> Secret:
    """The verifier with this salt."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password.reveal()), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return Secret(f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}")


def prepared(password: str) -> bytes:
    """The bytes that PostgreSQL and its clients take a password for.

    That is what SASLprep (RFC 4013) makes of it, except that PostgreSQL looks for what is not
    allowed before it normalises; with such a password, as with plain ASCII, it takes it as it is.
    """
    if not password.isascii():
        mapped = "".join(_mapped(character) for character in password)
        if mapped and _is_allowed(mapped):
            return unicodedata.normalize("NFKC", mapped).encode()
    return password.encode()


def _mapped(character: str) -> str:
    if stringprep.in_table_c12(character):
        return " "
    return "" if stringprep.in_table_b1(character) else character


def _is_allowed(text: str) -> bool:
    if any(refuses(character) for character in text for refuses in _PROHIBITED):
        return False
    if not any(stringprep.in_table_d1(character) for character in text):
        return True
    # What is written from right to left must be so as a whole.
    ends_so = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends_so and not any(stringprep.in_table_d2(character) for character in text)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
