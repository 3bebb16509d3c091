"""The stored form: JSON with a format version, decoded strictly, encoded stably."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import msgspec

from eru.model.errors import StoreError

FORMAT = 1

S = TypeVar("S", bound="Stored")


class Stored(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of everything that is a value in the store.

    `v` is the format version. A reader that meets a newer one says so instead
    of guessing; unknown fields of the same version are ignored.
    """

    WRITES: ClassVar[int] = FORMAT

    v: int = 0

    def encode(self) -> bytes:
        """This object as stored bytes; equal objects give equal bytes."""
        self.v = self.WRITES
        return _encoder.encode(self)

    @classmethod
    def decode(cls: type[S], data: bytes) -> S:
        """Raises StoreError when the bytes are not a value of this kind or are too new."""
        try:
            value = _decoder(cls).decode(data)
        except msgspec.DecodeError as error:
            raise StoreError(f"stored {cls.__name__} cannot be read: {error}") from error
        if value.v > cls.WRITES:
            raise StoreError(
                f"stored {cls.__name__} has format {value.v}, "
                f"this version reads up to {cls.WRITES}: upgrade this process"
            )
        return value


_encoder = msgspec.json.Encoder(order="sorted")
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def _decoder(cls: type[S]) -> msgspec.json.Decoder[S]:
    found = _decoders.get(cls)
    if found is None:
        found = _decoders[cls] = msgspec.json.Decoder(cls)
    return found
