from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from forebay_core.row_codes import Buffer, Status, TakenColumn

class RowParser:
    """Complete NDJSON or CSV records to typed columns.

    Parameters
    ----------
    max_rows : rows that the parser holds before it must be emptied with `take`
    max_record : bytes of a record; a longer one is rejected (Reason.SIZE)
    max_str : bytes of a str cell; a longer one is null, bad(size)
    max_nodes : distinct keys; values under further keys are counted in `ignored`

    Notes
    -----
    One thread at a time; the GIL is released while parsing. Numbers become the nearest double, as Python's
    float() does. Linear in the bytes.
    """

    def __init__(
        self, max_rows: int = 1000, max_record: int = 1048576, max_str: int = 65536, max_nodes: int = 4096
    ) -> None: ...
    @property
    def rows(self) -> int:
        """Rows held now."""

    @property
    def ignored(self) -> int:
        """Values in the rows held now that were not taken."""

    @property
    def stop_node(self) -> int:
        """Node of the cell that had no destination, after Status.STOPPED."""

    @property
    def stop_kind(self) -> int:
        """Its row_codes.Kind."""

    def set_time(self, required: bool, power: int, allow_naive: bool) -> None:
        """Say how times read: `power` 9, 6, 3 or 0 for numbers in s, ms, us, ns; row_codes.ISO for text.

        `required`: a record without a time is rejected. `allow_naive`: text without a zone passes and is
        flagged in `take`.
        """

    def add_column(self, column_type: int, limit: int = 0) -> int:
        """Add a column of a row_codes.ColumnType; rows held now are null(missing) in it.

        `limit` replaces `max_str`. Returns the number of the column.
        """

    def set_type(self, column: int, column_type: int) -> None:
        """Give an ANY column its type, or make f64 of i64. Raises ValueError for any other change."""

    def seen(self, column: int) -> int:
        """Bits of the kinds that came to a column (1 << Kind)."""

    def mark_seen(self, column: int, bits: int) -> None:
        """Add bits to `seen`, after a restart."""

    def add_node(self, parent: int, key: bytes) -> int:
        """Return the node of a key within another node (or row_codes.ROOT), -1 if there is no room."""

    def node_path(self, node: int) -> tuple[bytes, ...]:
        """Return the keys that lead to a node."""

    def set_node(self, node: int, role: int, primary: int, dest: Sequence[int]) -> None:
        """Say where a node's cells go: a column or a row_codes.Dest for each of the eight kinds.

        `primary` is the column that gets nulls; Dest.STOP: none yet, ask; Dest.IGNORE: none.
        """

    def set_header(self, nodes: Iterable[int], delimiter: int) -> None:
        """Say which node each cell of a CSV record belongs to."""

    def parse_json(self, data: Buffer, spans: npt.NDArray[np.int64], first: int) -> tuple[Status | int, int]:
        """Read the records at spans[first:]. Returns a row_codes.Status and the first record not read.

        data : bytes or uint8 (n,).  IN
        spans : int64 (m, 4) from forebay_core.records.  IN
        """

    def parse_csv(self, data: Buffer, spans: npt.NDArray[np.int64], first: int) -> tuple[Status | int, int]:
        """As `parse_json`, for CSV records."""

    def take_rejects(self) -> bytes:
        """Return what was rejected since the last call: int64 (n, 4) of record, Reason, values, cells."""

    def take(self) -> tuple[bytes, bytes, bytes, list[TakenColumn]]:
        """Return the rows and forget them.

        Returns
        -------
        time : int64 (rows,), ns
        local : uint8 (rows,), 1 where the time had no zone and stands as if it were UTC
        lines : int64 (rows,), the fourth number of the row's span
        columns : for each column (values, offsets or None, quality or None) as in forebay.blocks, but bool
            as int64; ANY: int64, 1 << Kind of each cell, 0 for null
        """

    def clear(self) -> None:
        """Forget the rows."""
