"""CSV to frames: strict about its shape, exact about its values.

pyarrow splits the text (it refuses lines with too few or too many cells, which Polars fills with nulls),
and every cell arrives as text; a column becomes a number only if no cell loses anything by it. So
`007` and numbers too long for 64 bits stay text. An unquoted empty cell is null; a quoted one is
empty text, or null in a column of numbers.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import polars as pl

from polars_materialize import warm
from polars_materialize.errors import TableError, counted, listing, other_separator
from polars_materialize.names import LABEL_KEYS, SCORE_KEYS, refuse_patterns
from polars_materialize.tables import csv_rows
from polars_materialize.tables.dtypes import WITH_POINT, Profile, is_exact
from polars_materialize.tables.files import PLAIN
from polars_materialize.tables.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from polars_materialize.tables.files import File

BLOCK_BYTES = 8 << 20
csv.field_size_limit(2**31 - 1)
BOOLEANS = ("true", "false", "True", "False", "TRUE", "FALSE")


def header(file: File) -> list[str]:
    """The names in the first line.

    Raises:
        TableError: If the file is empty, not UTF-8, or a name stands twice or is a pattern for Polars.
    """
    names = _header(file).names
    if not names:
        raise TableError(file.written, "the file is empty; expected a line of column names")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(file.written, f"columns that stand twice: {listing(twice)}", line=1)
    refuse_patterns(names, file.written)
    return names


class _Header(NamedTuple):
    """The names of a CSV's columns, how many lines they take, and whether a comma ends each line."""

    names: list[str]
    lines: int
    ended: bool = False

    @property
    def width(self) -> int:
        """How many cells a line has."""
        return len(self.names) + self.ended


def _header(file: File) -> _Header:
    dialect = file.dialect
    if dialect.columns is not None:
        return _Header(list(dialect.columns), 0)
    with file.open() as stream, _text(stream) as text:
        # Quotes after a blank are quotes, as in the cells.
        reader = csv.reader(text, skipinitialspace=dialect.evidence)
        try:
            names = next((line for line in reader if line), [])  # blank lines may come first
            if dialect.evidence:
                names = [name.strip() for name in names]
            if not dialect.trimmed:
                return _Header(names, reader.line_num)
            ended = len(names) > 1 and not names[-1]
            return _Header(names[:-1] if ended else names, reader.line_num, ended)
        except UnicodeDecodeError as error:
            raise _where_not_utf8(file, error) from None
        except csv.Error as error:
            raise TableError(file.written, f"not CSV: {error}", line=1) from None


def infer(file: File, key_columns: Sequence[str] = ()) -> Profile:
    """The dtypes that hold every cell: Int64, UInt64, Float64, Boolean, String; Null where all are blank.

    The file is plain, so that Polars' own scan reads the same cells, if it has no quotes and one line a row.

    Raises:
        TableError: If the file is not CSV of one shape; names the line.
    """
    names = header(file)
    schema = _Schema(names, key_columns, file.dialect.texts)
    rows, seen, survey, within = 0, Profile(), _survey(file), False
    for frame in read_text(file, names, names):
        rows += frame.height
        schema.add(frame)
        within |= bool(survey.quotes) and _has_quote(frame)
        for name, _ in file.partitions:
            if name in names:
                seen.hold(frame.get_column(name))
    if survey.quotes % 2 or within:
        _refuse_open_quote(file)
    return Profile(
        schema={
            name: dtype if schema.columns[name].seen else pl.Null() for name, dtype in schema.dtypes().items()
        },
        inexact={(name,) for name, column in schema.columns.items() if not column.exact},
        negative={(name,) for name, column in schema.columns.items() if column.low < 0},
        plain=file.dialect == PLAIN and not survey.quotes and survey.is_one_line_a_row(rows + 1),
        held=seen.held,
    )


def _has_quote(cells: pl.DataFrame) -> bool:
    """Whether a cell holds a quote: one that was written twice, or stands in a cell without quotes."""
    found = cells.select(pl.all().str.contains('"', literal=True).any())
    return any(found.row(0)) if found.width else False


def _refuse_open_quote(file: File) -> None:
    """Refuses a file whose last cell is quoted and has no end; a quote within a cell opens nothing."""
    with file.open() as stream, _text(stream) as text:
        reader, last = csv.reader(text, strict=True), 0
        try:
            for _ in reader:
                last = reader.line_num
        except csv.Error as error:
            problem = "a quote is not closed" if "end of data" in str(error) else str(error)
            raise TableError(file.written, f"not CSV: {problem}", line=last + 1) from None


def scan(file: File, schema: pl.Schema) -> pl.LazyFrame:
    """Polars' own scan of a plain file."""
    cells = pl.scan_csv(file.local(), infer_schema=False, glob=False)
    return cells.select(_cast(name, dtype) for name, dtype in schema.items())


def read(file: File, schema: pl.Schema, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Reads some columns with their inferred dtypes, in batches."""
    for frame in read_text(file, list(schema), columns):
        yield frame.select(_cast(name, schema[name]) for name in columns)


def read_text(file: File, names: Sequence[str], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Reads some columns as text, in batches.

    Raises:
        TableError: If a line has too few or too many cells, or is not UTF-8; names the line.
    """
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - start-up does not need it

    head = _header(file)
    seen = False
    pieces = csv_rows.pieces(file, BLOCK_BYTES, head.lines)
    try:
        for frame in in_order(lambda piece: _cells(piece, file, head, names, columns), pieces):
            seen = True
            yield frame
    except (pa.ArrowInvalid, csv.Error) as error:
        raise _first_fault(file, head.width, str(error)) from None
    if not seen and not head.lines:
        raise TableError(file.written, f"the file is empty; expected lines of {head.width} cells")


def _cells(
    piece: bytes, file: File, head: _Header, names: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    """The cells of some columns in whole rows, as text; pyarrow's own error if there is a fault."""
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - start-up does not need it
        from pyarrow import csv as pa_csv  # noqa: PLC0415

    # A line of one empty cell is a null in a table of one column, and blank in any other.
    parsing = pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=head.width > 1)
    places = {name: f"{index}" for index, name in enumerate(names)}
    end = [f"{index}" for index in range(len(names), head.width)]
    converting = pa_csv.ConvertOptions(
        column_types=dict.fromkeys([*places.values(), *end], pa.large_string()),
        include_columns=[*(places[name] for name in columns), *end] or ["0"],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    reading = pa_csv.ReadOptions(
        use_threads=False, block_size=len(piece) + 1, column_names=[*places.values(), *end]
    )
    frame = pl.DataFrame(pa_csv.read_csv(pa.BufferReader(piece), reading, parsing, converting))
    cells = {name: pl.col(places[name]) for name in columns}
    if any((frame.get_column(name).str.strip_chars() != "").any() for name in end):
        problem = "a cell beyond the last name; expected a comma that ends the line"
        raise TableError(file.written, problem)
    if file.dialect.evidence and (b' "' in piece or b'\t"' in piece):
        cells = {name: _unquoted(cell) for name, cell in cells.items()}
    if file.dialect.trimmed:
        cells = {name: cell.str.strip_chars() for name, cell in cells.items()}
    return frame.select(cell.alias(name) for name, cell in cells.items())


def _unquoted(cell: pl.Expr) -> pl.Expr:
    """A cell whose quotes come after a blank, and so are text to pyarrow, without both."""
    inside = cell.str.extract(r'(?s)^[ \t]+"((?:[^"]|"")*)"[ \t]*$').str.replace_all('""', '"', literal=True)
    return pl.coalesce(inside, cell)


class Gathered(NamedTuple):
    """The rows of small files that were read together.

    Attributes:
        files: The files.
        rows: How many rows each has.
        frame: The rows; nothing if these files have to be read one by one.
        skipped: How many lines of each file come before its rows.
    """

    files: list[File]
    rows: list[int]
    frame: pl.DataFrame | None = None
    skipped: int = 0


def gather(files: Iterable[File], key_columns: Sequence[str]) -> Iterator[Gathered]:
    """Reads small files together as long as their headers are the same.

    Only files of plain lines are: without quotes, without blank lines. What is odd in any way is left to be
    read file by file, so that nothing comes out otherwise and errors name their place.
    """
    some, known = Gathered([], []), b""
    bodies: list[bytes] = []

    def read() -> Iterator[Gathered]:
        if some.files:
            yield _read_gathered(some, b"".join(bodies), key_columns)

    for file in files:
        with file.open() as stream:
            data = stream.read().removeprefix(csv_rows.BOM)
        header, body = (b"", data) if file.dialect.columns is not None else _partition(data)
        plain = _is_plain(data, body)
        if not plain or header != known or sum(len(other) for other in bodies) > BLOCK_BYTES:
            yield from read()
            some, bodies, known = Gathered([], []), [], header
        if not plain:
            yield Gathered([file], [])
            continue
        if not body.endswith(b"\n"):
            body += b"\n"
        some.files.append(file)
        some.rows.append(body.count(b"\n"))
        bodies.append(body)
    yield from read()


def _partition(data: bytes) -> tuple[bytes, bytes]:
    """The first line, and the others."""
    header, end, body = data.partition(b"\n")
    return header + end, body


def _is_plain(data: bytes, body: bytes) -> bool:
    """Whether each line is a row, and a file has some."""
    blank = (
        data.startswith((b"\n", b"\r"))
        or body.startswith((b"\n", b"\r\n"))
        or b"\n\n" in body
        or b"\n\r\n" in body
    )
    return bool(body) and b'"' not in data and not blank and data.count(b"\r") == data.count(b"\r\n")


def _read_gathered(some: Gathered, data: bytes, key_columns: Sequence[str]) -> Gathered:
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - start-up does not need it

    file = some.files[0]
    names, head = header(file), _header(file)
    try:
        text = _cells(data, file, head, names, names)
    except (pa.ArrowInvalid, TableError):
        return some
    if text.height != sum(some.rows):
        return some
    schema = _Schema(names, key_columns, file.dialect.texts)
    schema.add(text)
    if not schema.is_of_each_file(text, some.rows):
        return some
    frame = text.select(_cast(name, dtype) for name, dtype in schema.dtypes().items())
    return some._replace(frame=frame, skipped=head.lines)


def line_numbers(file: File, rows: int) -> pl.Series:
    """The line on which each row begins, counted from 1."""
    head = _header(file)
    skipped, width = head.lines, head.width
    if _survey(file).is_one_line_a_row(rows + skipped):
        return pl.int_range(skipped + 1, skipped + rows + 1, eager=True)
    with file.open() as stream, _text(stream) as text:
        reader = csv.reader(text)
        while reader.line_num < skipped:
            next(reader)
        starts, last = [], reader.line_num
        for row in reader:
            if row or width == 1:
                starts.append(last + 1)
            last = reader.line_num
    return pl.Series(starts, dtype=pl.Int64)


class _Survey(NamedTuple):
    """How many line feeds, carriage returns without one, and quotes a file has."""

    lines: int
    returns: int
    quotes: int

    def is_one_line_a_row(self, rows: int) -> bool:
        """Whether a file of so many rows has no blank lines, and none that only some readers take for one."""
        return self.lines == rows and not self.returns


def _survey(file: File) -> _Survey:
    lines, returns, quotes, last = 0, 0, 0, b"\n"
    with file.open() as stream:
        while block := stream.read(BLOCK_BYTES):
            lines += block.count(b"\n")
            returns += block.count(b"\r") - block.count(b"\r\n") - (last + block[:1] == b"\r\n")
            quotes += block.count(b'"')
            last = block[-1:]
    return _Survey(lines + (last != b"\n"), returns, quotes)


def _text(stream: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def _first_fault(file: File, width: int, problem: str) -> TableError:
    """Finds the line that is at fault; pyarrow counts rows only in one thread."""
    with file.open() as stream, _text(stream) as text:
        reader = csv.reader(text, strict=True)
        names: list[str] = []
        last = 0
        try:
            for row in reader:
                names = names or row
                if row and len(row) != width:
                    found = f"expected {counted(width, 'cell')}, found {len(row)}{other_separator(names)}"
                    return TableError(file.written, found, line=last + 1)
                last = reader.line_num
        except UnicodeDecodeError as wrong:
            return _where_not_utf8(file, wrong)
        except csv.Error as wrong:
            return TableError(file.written, f"not CSV: {wrong}", line=last + 1)
    return TableError(file.written, f"not CSV: {problem}")


def _where_not_utf8(file: File, wrong: UnicodeDecodeError) -> TableError:
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                problem = f"not UTF-8 text: {error.reason}; save it as UTF-8"
                return TableError(file.written, problem, line=number)
    return TableError(file.written, f"not UTF-8 text: {wrong.reason}; save it as UTF-8")


class _Schema:
    """What the columns of a table can still be, judged batch by batch."""

    def __init__(self, names: Sequence[str], key_columns: Sequence[str], texts: Sequence[str]) -> None:
        keys = {*SCORE_KEYS, *LABEL_KEYS, *(name.lower() for name in key_columns)}
        self.columns = {
            name: _Column(is_key=name.strip().lower() in keys, is_text=name.strip().lower() in texts)
            for name in names
        }

    def add(self, cells: pl.DataFrame) -> None:
        for name, column in self.columns.items():
            column.add(cells.get_column(name))

    def dtypes(self) -> dict[str, pl.DataType]:
        return {name: column.dtype() for name, column in self.columns.items()}

    def is_of_each_file(self, cells: pl.DataFrame, rows: Sequence[int]) -> bool:
        """Whether a column that is text for all files together is so for each of them."""
        texts = [name for name, dtype in self.dtypes().items() if dtype == pl.String()]
        if len(rows) < 2 or not texts:
            return True
        alone = []
        for name in texts:
            cell = pl.col(name)
            said = cell.is_not_null() & (cell != "")
            other = cell.cast(pl.Float64, strict=False).is_not_null() | cell.is_in(BOOLEANS)
            alone.append(said.any() & (other | ~said).all())
        file = pl.Series(range(len(rows)), dtype=pl.Int64).repeat_by(pl.Series(rows)).explode()
        found = cells.group_by(file.alias("0")).agg(pl.any_horizontal(alone).alias("1"))
        return not found.get_column("1").any()


class _Column:
    """What a column of cells can still be, judged batch by batch."""

    def __init__(self, *, is_key: bool, is_text: bool) -> None:
        self.is_key = is_key
        self.seen = False
        self.boolean = not is_text
        self.number = not is_text
        self.integer = True
        self.exact = True  # as Float64
        self.low = 0
        self.high = 0

    def add(self, cells: pl.Series) -> None:
        cells = cells.filter(cells.is_not_null() & (cells != ""))
        if cells.is_empty():
            return
        if self.boolean and not cells.is_in(BOOLEANS).all():
            self.boolean = False
            self.number &= not self.seen
        self.seen = True
        if self.number and not self.boolean:
            self._add_numbers(cells)

    def _add_numbers(self, cells: pl.Series) -> None:
        numbers = cells.cast(pl.Float64, strict=False)
        # A leading zero or plus is part of an id, and 1e999 is not infinity.
        spelled = cells.str.contains(r"^[+-]?0[0-9]|^\+")
        overflow = numbers.is_infinite() & ~cells.str.contains("(?i)inf")
        # A key may be a number only where it has one spelling: 12345, or 12345.0 if it was nullable once.
        ambiguous = self.is_key and not cells.str.contains(r"^-?[0-9]+(\.0)?$").all()
        if numbers.null_count() or spelled.any() or overflow.any() or ambiguous:
            self.number = False
            return
        if self.integer:
            digits = cells.cast(pl.Int128, strict=False).cast(pl.String)
            self.integer = bool((digits == cells).fill_null(False).all())
        if (numbers < 0).any():
            self.low = min(self.low, -1)
        wide = numbers.is_finite() & (numbers.abs() >= 2.0**53)
        if wide.any():
            self._add_wide(cells.filter(wide & ~cells.str.contains("[^0-9-]")))
            self._add_wide_with_point(cells.filter(wide & cells.str.contains(WITH_POINT)))

    def _add_wide(self, cells: pl.Series) -> None:
        integers = cells.cast(pl.Int128, strict=False)
        if integers.null_count():
            self.integer = self.exact = False
        elif not integers.is_empty():
            self.exact &= bool((integers.cast(pl.Float64).cast(pl.Int128) == integers).all())
            self.low = min(self.low, int(integers.min()))  # type: ignore[arg-type]
            self.high = max(self.high, int(integers.max()))  # type: ignore[arg-type]

    def _add_wide_with_point(self, cells: pl.Series) -> None:
        """Such as `9007199254740993.0`, an id of a column that was nullable once."""
        integers = cells.str.extract(r"^(-?[0-9]+)\.0*$").cast(pl.Int128, strict=False)
        if self.exact and not (integers.cast(pl.Float64).cast(pl.Int128) == integers).fill_null(False).all():
            self.exact = all(is_exact(cell) for cell in cells)

    def dtype(self) -> pl.DataType:
        if not self.seen:
            return pl.String()
        if self.boolean:
            return pl.Boolean()
        if self.number and self.integer:
            if self.low >= -(2**63) and self.high < 2**63:
                return pl.Int64()
            # Neither pyarrow nor DuckDB reads 128-bit integers from Parquet.
            return pl.UInt64() if self.low >= 0 and self.high < 2**64 else pl.String()
        if self.number and self.exact:
            return pl.Float64()
        return pl.String()


def _cast(name: str, dtype: pl.DataType) -> pl.Expr:
    cell = pl.col(name)
    if dtype == pl.String():
        return cell
    cell = pl.when(cell != "").then(cell)
    if dtype == pl.Boolean():
        return (cell.str.to_lowercase() == "true").alias(name)
    return cell.cast(dtype).alias(name)
