"""Flat Parquet tables as `block.md` has them: zstd, v1 data pages, and the encodings that are used there. Doubles are given as
their 64 bits, numbers without sign as such, texts and binaries as bytes, null as None."""

import struct

from reader_bytes import Bytes, need, unzstd

INT32, INT64, DOUBLE, BYTE_ARRAY, FIXED = 1, 2, 5, 6, 7
PLAIN, PLAIN_DICTIONARY, RLE, DELTA, RLE_DICTIONARY, SPLIT = 0, 2, 3, 5, 8, 9
MASK = (1 << 64) - 1


def thrift(taken, kind):
    """A value of the compact protocol; structs as dicts by field number."""
    if kind in (1, 2):
        return kind == 1
    if kind == 3:
        return taken.byte()
    if kind in (4, 5, 6):
        return taken.signed()
    if kind == 7:
        return struct.unpack("<d", taken.take(8))[0]
    if kind == 8:
        return taken.bytes()
    if kind == 9:
        head = taken.byte()
        count = head >> 4 if head >> 4 < 15 else taken.varint()
        return [thrift(taken, head & 15) for _ in range(count)]
    need(kind == 12, f"thrift type {kind}")
    fields, number = {}, 0
    while head := taken.byte():
        number = number + (head >> 4) if head >> 4 else taken.signed()
        fields[number] = thrift(taken, head & 15)
    return fields


def hybrid(taken, width, count):
    """Runs and bit-packed groups of eight."""
    out = []
    while len(out) < count:
        head = taken.varint()
        if head & 1:
            packed = int.from_bytes(taken.take(min((head >> 1) * width, taken.left())), "little")
            out += [packed >> i * width & (1 << width) - 1 for i in range((head >> 1) * 8)]
        else:
            out += [int.from_bytes(taken.take((width + 7) // 8), "little")] * (head >> 1)
    return out[:count]


def delta(taken, count):
    block, parts, total, value = taken.varint(), taken.varint(), taken.varint(), taken.signed()
    need(total == count, "values of a page")
    out = [value][:count]
    while len(out) < count:
        least, widths, length = taken.signed(), taken.take(parts), block // parts
        for width in widths:
            if len(out) >= count:
                break
            packed = int.from_bytes(taken.take(length * width // 8), "little")
            for i in range(min(length, count - len(out))):
                value += least + (packed >> i * width & (1 << width) - 1)
                out.append(value)
    return out


def plain(taken, kind, length, count):
    if kind == BYTE_ARRAY:
        return [taken.take(int.from_bytes(taken.take(4), "little")) for _ in range(count)]
    if kind == FIXED:
        return [taken.take(length) for _ in range(count)]
    size = 4 if kind == INT32 else 8
    return [int.from_bytes(taken.take(size), "little") for _ in range(count)]


def column(data, meta, element):
    """All values of one column of one row group."""
    start = min(at for at in (meta.get(11), meta[9]) if at is not None)
    taken, values, dictionary = Bytes(data[start:start + meta[7]]), [], []
    kind, optional = element[1], element[3] == 1
    need(meta[4] == 6, "pages are compressed with zstd")
    while len(values) < meta[5]:
        head = thrift(taken, 12)
        page = Bytes(unzstd(taken.take(head[3]), head[2]))
        if head[1] == 2:
            dictionary = plain(page, kind, element.get(2), head[7][1])
            continue
        need(head[1] == 0, "pages are of version 1")
        count, encoding, there = head[5][1], head[5][2], None
        if optional:
            there = hybrid(Bytes(page.take(int.from_bytes(page.take(4), "little"))), 1, count)
        some = sum(there) if optional else count
        if encoding in (PLAIN_DICTIONARY, RLE_DICTIONARY):
            width = page.byte()
            found = [dictionary[i] for i in hybrid(page, width, some)]
        elif encoding == DELTA:
            found = delta(page, some)
        elif encoding == SPLIT:
            raw = page.take(8 * some)
            found = [int.from_bytes(raw[i::some], "little") for i in range(some)]
        else:
            need(encoding == PLAIN, f"encoding {encoding}")
            found = plain(page, kind, element.get(2), some)
        rest = iter(found)
        values += [next(rest) if is_there else None for is_there in there] if optional else found
    return values


def signed_of(element, value):
    """Numbers as they were meant: the logical type says whether they have a sign."""
    if value is None or element[1] not in (INT32, INT64):
        return value
    bits = 32 if element[1] == INT32 else 64
    value %= 1 << bits
    unsigned = element.get(6) in (11, 12, 13, 14)  # UINT_8 to UINT_64
    return value if unsigned or value >> bits - 1 == 0 else value - (1 << bits)


def table(data):
    """The columns of a table by name."""
    need(data[:4] == data[-4:] == b"PAR1", "a Parquet file")
    length = int.from_bytes(data[-8:-4], "little")
    footer = thrift(Bytes(data[-8 - length:-8]), 12)
    elements = footer[2][1:]
    need(all(5 not in element for element in elements), "a flat table")
    columns = {element[4].decode(): [] for element in elements}
    for group in footer[4]:
        for element, chunk in zip(elements, group[1]):
            values = column(data, chunk[3], element)
            columns[element[4].decode()] += [signed_of(element, value) for value in values]
    need(all(len(values) == footer[3] for values in columns.values()), "rows of a table")
    return columns
