"""Fields that several kinds of control messages share, with their bounds."""

from __future__ import annotations

from typing import Annotated

import msgspec

BucketName = Annotated[bytes, msgspec.Meta(max_length=64)]
Partition = Annotated[int, msgspec.Meta(ge=0, le=65535)]
StoreKey = Annotated[bytes, msgspec.Meta(max_length=24)]  # empty: before all others
WholeStoreKey = Annotated[bytes, msgspec.Meta(min_length=24, max_length=24)]
PlacementName = Annotated[int, msgspec.Meta(ge=0)]
