"""Chunk codecs (`codecs.md`, `windows.md`). Floats are given as their 64 bits."""

import struct

from reader_bytes import Bytes, need, wrap
from reader_pco import pco_floats, pco_numbers

STALE = 0x7FF0000000000002
CONSTANT, INTEGER, BITS, RAW, MULTIPLES, ENTROPY, BUCKETS, HISTOGRAM, WINDOWS, HISTOGRAM_WINDOWS = 1, 2, 3, 4, 5, 6, 7, 16, 17, 18


def bits_of(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def packed(taken, count):
    out = []
    while len(out) < count:
        m, head = min(128, count - len(out)), taken.byte()
        width, base, patches = head & 127, taken.signed(), {}
        if head & 128:
            positions = taken.take(taken.byte())
            patches = {position: taken.varint() for position in positions}
        low = int.from_bytes(taken.take((m * width + 7) // 8), "little")
        for i in range(m):
            value = (low >> i * width & (1 << width) - 1) + (patches.get(i, 0) << width)
            out.append(wrap(base + value))
    return out


def summed(firsts, differences):
    """Integers, from their differences of some order and the first value of each lower one."""
    for first in reversed(firsts):
        out = [first]
        for difference in differences:
            out.append(wrap(out[-1] + difference))
        differences = out
    return differences


def stream(taken, count):
    flags = taken.byte()
    need(flags & ~7 == 0, "flags of a stream")
    changes = [True] * count
    if flags & 4:
        bitmap = taken.take((count + 7) // 8)
        changes = [bool(bitmap[i // 8] >> i % 8 & 1) for i in range(count)]
    order, some = flags & 3, sum(changes)
    firsts = [taken.signed() for _ in range(min(order, some))]
    kept = iter(summed(firsts, packed(taken, some - len(firsts))))
    out = []
    for change in changes:
        out.append(next(kept) if change else out[-1])
    return out


def decimals(taken, count, base=None):
    """Codecs 2 and 5: exceptions and integers; the latter are read by `integers(flags, how many)`."""
    flags, exceptions = taken.byte(), {}
    if flags & 0x30:
        at, positions = 0, []
        for _ in range(taken.varint()):
            at += taken.varint()
            positions.append(at)
            at += 1
        exceptions = {at: taken.u64() if flags & 0x10 else STALE for at in positions}
    some = count - len(exceptions)
    return flags, exceptions, some


def spread(count, exponent, exceptions, integers):
    rest = iter(integers)

    def value():
        integer = float(next(rest))
        return bits_of(integer / float(10 ** exponent) if exponent else integer)

    return [exceptions[i] if i in exceptions else value() for i in range(count)]


def multiples(taken, count, base):
    flags, exceptions, some = decimals(taken, count)
    step = taken.varint()
    offset = taken.signed() if step > 1 else 0
    if taken.byte() == 0:
        numbers = stream(taken, some)
    else:
        order = taken.byte()
        firsts, least, width = [taken.signed() for _ in range(order)], taken.signed(), taken.byte()
        above = pco_numbers(taken, width, some - order)
        numbers = summed(firsts, [wrap(least + number) for number in above])
    integers = [wrap(offset + number * step) for number in numbers]
    if flags & 0x40:
        need(base is not None, "a base for a relative chunk")
        below = iter(int(float_of(bits)) for i, bits in enumerate(base) if i not in exceptions)
        integers = [wrap(integer + next(below)) for integer in integers]
    return spread(count, flags & 15, exceptions, integers)


def floats(codec, taken, count, base=None):
    """The samples of a body of codec 2 to 6."""
    if codec == INTEGER:
        flags, exceptions, some = decimals(taken, count)
        out = spread(count, flags & 15, exceptions, stream(taken, some))
    elif codec == BITS:
        ordered = [value % (1 << 64) for value in stream(taken, count)]
        out = [b ^ ((1 << 63) - 1 if b >> 63 else 0) for b in ordered]
    elif codec == RAW:
        out = [taken.u64() for _ in range(count)]
    elif codec == MULTIPLES:
        out = multiples(taken, count, base)
    else:
        need(codec == ENTROPY, f"codec {codec}")
        out = pco_floats(taken, count)
    need(taken.left() == 0 and len(out) == count, "end of a body")
    return out


def buckets(taken, count):
    """The samples of each bucket, by its distance to the row that has the payload."""
    heads = [(taken.varint(), taken.byte(), taken.varint()) for _ in range(taken.varint())]
    found, base = {}, None
    for back, codec, length in heads:
        base = found[back] = floats(codec, Bytes(taken.take(length)), count, base)
    return found


def float_column(taken, count):
    codec = taken.byte()
    if codec == CONSTANT:
        return [taken.u64()] * count
    return floats(codec, Bytes(taken.bytes()), count)


def timestamps(taken):
    count, first = taken.varint(), taken.signed()
    if count == 1:
        need(taken.left() == 0, "end of timestamps")
        return [first]
    step, mode = taken.signed(), taken.byte()
    if mode == 3:
        least, width = taken.signed(), taken.byte()
        residuals = [wrap(least + number) for number in pco_numbers(taken, width, count - 1)]
    else:
        residuals = packed(taken, count - 1)
    out, difference = [first], step
    for i, residual in enumerate(residuals, 1):
        difference = wrap(difference + residual)
        of_mode = {0: first + i * step + residual, 1: out[-1] + step + residual, 2: out[-1] + difference}
        out.append(wrap(of_mode[mode % 3]))
    need(taken.left() == 0, "end of timestamps")
    return out


def starts(taken, count):
    """Since when samples count; 0 is unknown."""
    runs = taken.varint()
    lengths = stream(taken, runs - 1) if runs > 1 else []
    lengths.append(count - sum(lengths))
    return [start for start, length in zip(stream(taken, runs), lengths) for _ in range(length)]


def histograms(taken, count):
    out = []
    while len(out) < count:
        run, is_float, schema, threshold = taken.varint(), taken.byte(), taken.signed(), taken.u64()
        spans = [[(taken.signed(), taken.varint()) for _ in range(taken.varint())] for _ in range(2)]
        bounds = [taken.u64() for _ in range(taken.varint())]
        numbers, hints = [taken.varint(), taken.varint()], []
        while len(hints) < run:
            hint = taken.byte()
            hints += [hint] * taken.varint()
        sums = float_column(taken, run)
        read = float_column if is_float else stream
        columns = [read(taken, run) for _ in range(2 + sum(numbers))]
        for i in range(run):
            cells = [column[i] for column in columns]
            out.append({
                "float": bool(is_float), "schema": schema, "zero_threshold": threshold, "spans": spans, "bounds": bounds,
                "hint": hints[i], "sum": sums[i], "count": cells[0] % (1 << 64), "zero_count": cells[1] % (1 << 64),
                "positive": cells[2:2 + numbers[0]], "negative": cells[2 + numbers[0]:],
            })
    need(taken.left() == 0, "end of histograms")
    return out


def marks(taken, count):
    ended, at = [False] * count, 0
    for _ in range(taken.varint()):
        at += taken.varint()
        ended[at] = True
        at += 1
    return ended


def windows(taken, count):
    """Columns of a chunk of windows: last, first, min, max, increase, sum, count, and which ended."""
    ended, columns = marks(taken, count), []
    for _ in range(7):
        tag = taken.data[taken.at]
        if tag < 64:
            columns.append(float_column(taken, count))
            continue
        taken.byte()
        if tag & 63 == 7:
            base = [bits_of(float_of(a) - float_of(b)) for a, b in zip(columns[0], columns[1])]
        elif tag & 63 == 8:
            base = [columns[0][0], *columns[0][:-1]]
        else:
            base = columns[tag & 63]
        columns.append(base if tag & 128 else floats(MULTIPLES, Bytes(taken.bytes()), count, base))
    need(taken.left() == 0, "end of windows")
    return columns, ended


def histogram_windows(taken, count):
    ended, counts = marks(taken, count), float_column(taken, count)
    last = histograms(Bytes(taken.bytes()), count)
    merged = histograms(Bytes(taken.take(taken.left())), count)
    return list(zip(counts, last, merged, ended))
