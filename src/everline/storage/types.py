"""Values of the blob store. Light: no sqlalchemy, no obstore."""

from __future__ import annotations

import msgspec


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection found and did.

    Attributes:
        dry_run: nothing was done; the figures say what would have been.
        referenced: digests that something refers to.
        condemned: blobs and pieces that nothing refers to, found now; they are removed after the grace.
        waiting: such as were found earlier, and whose grace is not over.
        pardoned: such as were found earlier, and are referred to again.
        removed: blobs and pieces whose grace is over.
        packs_rewritten: packs that were mostly dead, and whose living pieces were moved.
        bytes_freed: of files that were removed.
    """

    dry_run: bool
    referenced: int
    condemned: int
    waiting: int
    pardoned: int
    removed: int
    packs_rewritten: int
    bytes_freed: int
