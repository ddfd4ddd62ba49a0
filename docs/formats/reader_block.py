"""The rows of a block: its tables, and the chunks in them."""

import struct

from reader_bytes import Bytes, crc32c, need
from reader_codecs import (
    BUCKETS, CONSTANT, HISTOGRAM, HISTOGRAM_WINDOWS, WINDOWS, buckets, floats, histogram_windows, histograms, starts,
    timestamps, windows)
from reader_parquet import table


def body_of(payload, *facts):
    checksum, body = struct.unpack("<I", payload[:4])[0], payload[4:]
    need(crc32c(body + b"".join(facts)) == checksum, "checksum of a payload")
    return body


def vectors(data):
    rows = table(data)
    found = [timestamps(Bytes(body_of(payload))) for payload in rows["payload"]]
    for vector, first, last, count in zip(found, rows["min_ts"], rows["max_ts"], rows["count"]):
        need((vector[0], vector[-1], len(vector)) == (first, last, count), "a row of ts.parquet")
    return found


def chunk(rows, at, instants):
    """The rows of one chunk: kind, and what it has by instant."""
    codec, count, has_starts = rows["codec"][at] & 127, rows["count"][at], rows["codec"][at] >> 7
    need(len(instants) == count, "instants of a chunk")
    need((instants[0], instants[-1]) == (rows["min_ts"][at], rows["max_ts"][at]), "range of a chunk")
    since = [0] * count
    if codec == CONSTANT and rows["min"][at] is not None and not has_starts:
        return "samples", zip(instants, [rows["min"][at]] * count, since)
    back = rows["payload_back"][at]
    payload, holder = rows["payload"][at - back], at - back
    facts = (rows["codec"][holder], rows["count"][holder], rows["ts_row"][holder])
    taken = Bytes(body_of(payload, struct.pack("<BHI", *facts)))
    if has_starts:
        since = starts(taken, count)
    if codec == CONSTANT:
        in_min = rows["min"][at] is not None
        values = [rows["min"][at] if in_min else taken.u64()] * count
    elif codec == BUCKETS:
        values = buckets(taken, count)[back]
    elif codec == HISTOGRAM:
        return "histograms", zip(instants, histograms(taken, count), since)
    elif codec == WINDOWS:
        columns, ended = windows(taken, count)
        return "windows", zip(instants, zip(*columns), ended)
    elif codec == HISTOGRAM_WINDOWS:
        return "histogram_windows", zip(instants, histogram_windows(taken, count))
    else:
        values = floats(codec, taken, count)
    need(taken.left() == 0, "end of a chunk")
    return "samples", zip(instants, values, since)


def rows(ends, objects):
    """All rows by kind, each with its series row in front; and which codecs there are."""
    found = {"samples": [], "histograms": [], "windows": [], "histogram_windows": []}
    of_chunks, of_vectors = table(objects["chunks"]), vectors(objects["ts"])
    series = 0
    for at, row in enumerate(of_chunks["series_row"]):
        while ends[series] <= at:
            series += 1
        need(row == series, "the series of a chunk")
        kind, entries = chunk(of_chunks, at, of_vectors[of_chunks["ts_row"][at]])
        found[kind] += [[row, *entry] for entry in entries]
    need(len(table(objects["series"])["tenant"]) == len(ends), "rows of series.parquet")
    exemplars = len(table(objects["exemplars"])["value"]) if "exemplars" in objects else 0
    return found, exemplars, sorted({codec & 127 for codec in of_chunks["codec"]})
