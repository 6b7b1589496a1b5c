# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of OpenPGP public keys, read without gpg, which hosts need not have.

Formats: RFC 4880, sections 4.2 (packets), 6.2 (armor), 12.2 (fingerprint of a version 4 key).
"""

import base64
import binascii
import hashlib
import re
import struct
from typing import Iterator, List, Tuple

from ..host.errors import ForjaError

ARMOR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
PUBLIC_KEY, SECRET_KEY = 6, 5


def fingerprints(content: bytes) -> List[str]:
    """The fingerprints (40 capital hexadecimal digits) of the primary keys in a key file, armored or binary."""
    found = []
    for tag, body in _packets(_binary(content)):
        if tag == SECRET_KEY:
            raise ForjaError("it holds a secret key")
        if tag == PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise ForjaError(f"it holds a key of version {body[0] if body else '?'}, only version 4 is understood")
            found.append(hashlib.sha1(b"\x99" + struct.pack(">H", len(body)) + body).hexdigest().upper())  # noqa: S324 (the format's own)
    if not found:
        raise ForjaError("it holds no public key")
    return found


def _binary(content: bytes) -> bytes:
    blocks = ARMOR.findall(content)
    if not blocks:
        return content
    result = b""
    for block in blocks:
        # Headers such as `Version: ...` end with an empty line; the last line, after =, is a checksum.
        lines = [line.strip() for line in block.splitlines()]
        body = lines[lines.index(b"") + 1:] if b"" in lines else lines
        try:
            result += base64.b64decode(b"".join(line for line in body if not line.startswith(b"=")), validate=True)
        except binascii.Error as error:
            raise ForjaError(f"its armor is damaged ({error})") from error
    return result


def _packets(data: bytes) -> Iterator[Tuple[int, bytes]]:
    at = 0
    while at < len(data):
        head = data[at]
        try:
            if not head & 0x80:
                raise ForjaError("it is not an OpenPGP key file")
            if head & 0x40:
                tag, (length, at) = head & 0x3F, _new_length(data, at + 1)
            else:
                tag, kind = (head >> 2) & 0x0F, head & 0x03
                if kind == 3:
                    raise ForjaError("it holds a packet of unknown length")
                size = 1 << kind
                length, at = int.from_bytes(data[at + 1:at + 1 + size], "big"), at + 1 + size
        except IndexError:
            raise ForjaError("it ends in the middle of a packet") from None
        if at + length > len(data):
            raise ForjaError("it ends in the middle of a packet")
        yield tag, data[at:at + length]
        at += length


def _new_length(data: bytes, at: int) -> Tuple[int, int]:
    """Length of a packet in the new format, and where its body begins."""
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1:at + 5], "big"), at + 5
    raise ForjaError("it holds a packet in parts, which no key file needs")
