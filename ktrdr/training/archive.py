"""Model files whose bytes depend on the model alone.

skops names arrays by their address in memory and notes the time of day, so that the same model,
written twice, makes two files. Here both are taken out, and a hash of the file means something.
"""

from __future__ import annotations

import io
import json
import zipfile
from itertools import count
from typing import Any, Final

SCHEMA: Final = "schema.json"
# The first moment that a ZIP file can name.
LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
# Whether two equal plain values are one object in memory is chance, and means nothing.
PLAIN: Final = ("JsonNode", "TypeNode")


def normalised(content: bytes) -> bytes:
    """The same archive, its members renamed in the order in which the schema speaks of them."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        names = _Names()
        schema = json.dumps(names.renamed(json.loads(source.read(SCHEMA))))
        members = {new: source.read(old) for old, new in names.files.items()}
    members[SCHEMA] = schema.encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), member)
    return target.getvalue()


class _Names:
    """New names for objects and files, by the old ones."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._ids: dict[int, int] = {}
        self._next = count(1)

    def renamed(self, node: Any) -> Any:
        """A part of the schema under the new names."""
        if isinstance(node, list):
            return [self.renamed(each) for each in node]
        if not isinstance(node, dict):
            return node
        found: dict[str, Any] = {}
        for key, value in node.items():
            if key == "__id__":
                found[key] = self._id(value, plain=node.get("__loader__") in PLAIN)
            elif key == "file":
                found[key] = self.files.setdefault(value, f"{len(self.files) + 1}.npy")
            else:
                found[key] = self.renamed(value)
        return found

    def _id(self, old: int, *, plain: bool) -> int:
        if plain:
            return next(self._next)
        if old not in self._ids:
            self._ids[old] = next(self._next)
        return self._ids[old]
