"""Stores with buckets, through obstore: what is there, its bytes, and uploads that are whole or not there."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from polars_materialize import warm
from polars_materialize.errors import ExtraError
from polars_materialize.stores.errors import MissingError, StoreError, reason
from polars_materialize.stores.options import for_obstore, for_scheme, has_region

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from polars_materialize.stores.options import StorageOptions

PART_BYTES = 10 << 20
"""What is sent at a time; `UPLOADS` of them are held."""
UPLOADS = 4
PARTS = 9_000
"""Into how many parts an upload may be cut; S3 takes 10,000."""
READ_BYTES = 4 << 20


class State(NamedTuple):
    """What changes when an object is written anew.

    Attributes:
        size: In bytes; -1 if its server does not say.
        e_tag: What its store calls this content.
        modified: When it was written, in whole seconds: listings know more than answers do.
    """

    size: int
    e_tag: str | None
    modified: int | None

    @classmethod
    def of(cls, meta: Any) -> State:
        """The state in what obstore knows of an object."""
        # Azure quotes its tags in some answers and not in others.
        e_tag = meta["e_tag"] and meta["e_tag"].strip('"')
        return cls(meta["size"], e_tag, int(meta["last_modified"].timestamp()))

    def is_other(self, state: State | None) -> bool:
        """Whether two states are not of one version; what either does not say is not compared."""
        if state is None or (self.size != state.size and -1 not in (self.size, state.size)):
            return True
        return any(None not in pair and pair[0] != pair[1] for pair in zip(self[1:], state[1:], strict=True))


class Bucket:
    """One bucket of a store."""

    def __init__(self, scheme: str, bucket: str, options: StorageOptions) -> None:
        """Opens it, which asks nothing of the store.

        Raises:
            ExtraError: If obstore is not installed.
            StoreError: If options make no sense.
        """
        try:
            with warm.importing:
                import obstore  # noqa: PLC0415 - an extra
                from obstore.store import from_url  # noqa: PLC0415
        except ImportError:
            raise ExtraError.of("obstore", "cloud") from None
        self.options = for_scheme(options, scheme)
        if scheme == "s3" and not has_region(self.options):
            raise StoreError("no region; expected AWS_REGION, or aws_region in storage_options")
        self._obstore = obstore
        try:
            self._store = from_url(f"{scheme}://{bucket}", **for_obstore(self.options))
        except (obstore.exceptions.BaseError, ValueError) as error:
            raise reason(error, self.options) from None
        self._errors = (obstore.exceptions.BaseError, OSError, ValueError)

    def state(self, key: str) -> State | None:
        """The state of an object; none if there is none.

        Raises:
            StoreError: If the store does not say.
        """
        try:
            return State.of(self._obstore.head(self._store, key))
        except self._errors as error:
            problem = reason(error, self.options)
        if isinstance(problem, MissingError):
            return None
        raise problem

    def list(self, prefix: str, *, deep: bool) -> Iterator[tuple[str, State | None]]:
        """The keys below a prefix, and without `deep` also the prefixes there, which have no state."""
        try:
            if deep:
                for batch in self._obstore.list(self._store, prefix or None):
                    for meta in batch:
                        yield meta["path"], State.of(meta)
                return
            found = self._obstore.list_with_delimiter(self._store, prefix or None)
        except self._errors as error:
            raise reason(error, self.options) from None
        for meta in found["objects"]:
            yield meta["path"], State.of(meta)
        for path in found["common_prefixes"]:
            yield path, None

    def read(self, key: str) -> tuple[State, Generator[bytes]]:
        """An object's state and its bytes, of the same version."""
        try:
            result = self._obstore.get(self._store, key)
        except self._errors as error:
            raise reason(error, self.options) from None
        return State.of(result.meta), self._blocks(result)

    def _blocks(self, result: Any) -> Generator[bytes]:
        try:
            yield from result.stream(min_chunk_size=READ_BYTES)
        except self._errors as error:
            raise reason(error, self.options) from None

    def upload(self, path: Path, key: str) -> None:
        """Sends a file; it takes the place of what was there when all of it has arrived, or never."""
        size = max(PART_BYTES, -(-path.stat().st_size // PARTS))
        writer = self._obstore.open_writer(self._store, key, buffer_size=size, max_concurrency=UPLOADS)
        # Left by an error, the block gives the upload up; `put` and pyarrow's streams are not so strict.
        with path.open("rb") as stream:
            try:
                with writer:
                    while block := stream.read(READ_BYTES):
                        writer.write(block)
            except self._errors as error:
                raise reason(error, self.options) from None

    def check_writable(self) -> None:
        """Asks whether the bucket is there, before a long run; it need not let itself be listed.

        Raises:
            StoreError: If it is not there, or cannot be reached.
        """
        try:
            self._obstore.list_with_delimiter(self._store, "polars-materialize-no-such-prefix")
        except self._errors as error:
            problem = reason(error, self.options)
            if "not permitted" not in str(problem):
                raise problem from None


@lru_cache(maxsize=64)
def _bucket(scheme: str, bucket: str, options: tuple[tuple[str, str | int | bool], ...], _: object) -> Bucket:
    return Bucket(scheme, bucket, dict(options))


def open_bucket(scheme: str, bucket: str, options: StorageOptions) -> Bucket:
    """A bucket; connections are kept for the next time, as long as the environment says the same."""
    said = tuple(item for item in os.environ.items() if item[0].startswith(("AWS_", "GOOGLE_", "AZURE_")))
    return _bucket(scheme, bucket, tuple(sorted(options.items())), said)
