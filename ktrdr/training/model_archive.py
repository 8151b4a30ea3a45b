"""Normalisation of model files, so that equal models have equal bytes.

skops names arrays by their memory address and records the time of day, so that the same model,
written twice, gives two different files. Both are removed here, so that a hash identifies a model.
"""

from __future__ import annotations

import io
import json
import zipfile
from itertools import count
from typing import Any, Final

SCHEMA: Final = "schema.json"
# The earliest time that a ZIP file can contain.
EARLIEST_TIME: Final = (1980, 1, 1, 0, 0, 0)
# Equal plain values may or may not be one object in memory, which has no meaning.
PLAIN_LOADERS: Final = ("JsonNode", "TypeNode")


def normalise_archive(content: bytes) -> bytes:
    """Return the archive with its members renamed in the order of the schema, and without times."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        renamer = _Renamer()
        schema = json.dumps(renamer.rename(json.loads(source.read(SCHEMA))))
        members = {new: source.read(old) for old, new in renamer.files.items()}
    members[SCHEMA] = schema.encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name, EARLIEST_TIME), member)
    return target.getvalue()


class _Renamer:
    """Mapping from old to new names of objects and files."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._ids: dict[int, int] = {}
        self._next_id = count(1)

    def rename(self, node: Any) -> Any:
        """Return a part of the schema with the new names."""
        if isinstance(node, list):
            return [self.rename(item) for item in node]
        if not isinstance(node, dict):
            return node
        renamed: dict[str, Any] = {}
        for key, value in node.items():
            if key == "__id__":
                renamed[key] = self._new_id(value, is_plain=node.get("__loader__") in PLAIN_LOADERS)
            elif key == "file":
                renamed[key] = self.files.setdefault(value, f"{len(self.files) + 1}.npy")
            else:
                renamed[key] = self.rename(value)
        return renamed

    def _new_id(self, old: int, *, is_plain: bool) -> int:
        if is_plain:
            return next(self._next_id)
        if old not in self._ids:
            self._ids[old] = next(self._next_id)
        return self._ids[old]
