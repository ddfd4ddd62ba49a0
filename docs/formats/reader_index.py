"""`index.bin` of a block (`block.md`): all sections, look-ups compared with the labels they were made from."""

import os
import struct

from reader_bytes import Bytes, crc32c, need, unzstd

# Bytes that the fst crate (format version 3) writes into the state byte of a node, by their number less one.
COMMON = b"te/oasripcnw.hlm-du012g=:bf3y5&_4v9678k%?xCDASFIBEjPTzRNM+LOqHG"


def uint(data, at, size):
    return int.from_bytes(data[at:at + size], "little")


def fst_node(data, at):
    """Whether a key ends at the node at an address and with which value, and its transitions: byte, value, address."""
    if at == 0:
        return True, 0, []
    state = data[at]
    if state >> 6 >= 2:
        number, end = state & 63, at - 1
        if number == 0:
            byte, end = data[end], end - 1
        else:
            byte = COMMON[number - 1]
        if state >> 6 == 3:
            return False, 0, [(byte, 0, end)]
        sizes = data[end]
        addresses, outputs = sizes >> 4, sizes & 15
        end -= addresses
        delta = uint(data, end, addresses)
        end -= outputs
        return False, 0, [(byte, uint(data, end, outputs), end - 1 - delta + 1 if delta else 0)]
    count, end = state & 63, at - 1
    if count == 0:
        count, end = data[end], end - 1
        count = 256 if count == 1 else count
    sizes = data[end]
    addresses, outputs = sizes >> 4, sizes & 15
    end -= 256 if count > 32 else 0
    inputs = [data[end - 1 - i] for i in range(count)]
    end -= count
    deltas = [uint(data, end - (i + 1) * addresses, addresses) for i in range(count)]
    end -= count * addresses
    values = [uint(data, end - (i + 1) * outputs, outputs) for i in range(count)]
    end -= count * outputs
    is_final, value = bool(state & 64), 0
    if is_final and outputs:
        end -= outputs
        value = uint(data, end, outputs)
    return is_final, value, [(b, v, end - d if d else 0) for b, v, d in zip(inputs, values, deltas)]


def fst(data):
    """All keys with their values."""
    version, _ = struct.unpack("<QQ", data[:16])
    count, root, checksum = struct.unpack("<QQI", data[-20:])
    need(version == 3, f"fst of version {version}")
    sum_of = crc32c(data[:-4])
    need(checksum == ((sum_of >> 15 | sum_of << 17) + 0xA282EAD8) % (1 << 32), "checksum of an fst")
    found, open_nodes = {}, [(b"", 0, root)]
    while open_nodes:
        key, value, at = open_nodes.pop()
        is_final, last, transitions = fst_node(data, at)
        if is_final:
            found[key] = value + last
        open_nodes += [(key + bytes([byte]), value + more, to) for byte, more, to in transitions]
    need(len(found) == count, "keys of an fst")
    return found


def roaring(taken):
    """The numbers of a bitmap in the portable format."""
    cookie, has_runs = int.from_bytes(taken.take(4), "little"), b""
    if cookie & 0xFFFF == 12347:
        count = (cookie >> 16) + 1
        has_runs = taken.take((count + 7) // 8)
    else:
        need(cookie == 12346, "a roaring bitmap")
        count = int.from_bytes(taken.take(4), "little")
    heads = [struct.unpack("<HH", taken.take(4)) for _ in range(count)]
    if not has_runs or count >= 4:
        taken.take(4 * count)
    out = []
    for i, (high, size) in enumerate(heads):
        if has_runs and has_runs[i // 8] >> i % 8 & 1:
            runs = struct.unpack("<H", taken.take(2))[0]
            pairs = [struct.unpack("<HH", taken.take(4)) for _ in range(runs)]
            low = [start + n for start, length in pairs for n in range(length + 1)]
        elif size < 4096:
            low = struct.unpack(f"<{size + 1}H", taken.take(2 * (size + 1)))
        else:
            bits = int.from_bytes(taken.take(8192), "little")
            low = [n for n in range(65536) if bits >> n & 1]
        out += [high << 16 | n for n in low]
    return out


def rows_of(value, postings):
    if value >> 62 == 0:
        return [value & 0xFFFFFFFF]
    if value >> 62 == 1:
        first, length = value >> 30 & 0xFFFFFFFF, value & (1 << 30) - 1
        return list(range(first, first + length))
    taken = Bytes(postings)
    taken.take(value & (1 << 62) - 1)
    return roaring(Bytes(taken.bytes()))


def check_look_ups(sections, series):
    """The dictionary and the postings say what the labels say."""
    expected = {}
    for row, (tenant, labels) in enumerate(series):
        for name, value in labels.items():
            for what in {value, ""}:
                key = struct.pack(">I", tenant) + name.encode() + b"\xff" + what.encode()
                expected.setdefault(key, []).append(row)
    if not series and 7 not in sections:
        return
    found = fst(sections[7])
    need(found.keys() == expected.keys(), "keys of the dictionary")
    for key, rows in expected.items():
        need(rows_of(found[key], sections.get(8, b"")) == rows, f"series of {key}")


def index_series(sections, rows):
    """Tenant and labels of each series."""
    texts = Bytes(sections[3])
    lengths = [texts.varint() for _ in range(texts.varint())]
    symbols = [texts.take(length).decode() for length in lengths]
    tenants, owners = Bytes(sections[2]), []
    for _ in range(tenants.varint()):
        tenant, own = tenants.varint(), tenants.varint()
        tenants.varint(), tenants.signed(), tenants.signed()
        owners += [tenant] * own
    need(len(owners) == rows, "series of the tenants")
    taken, groups, pairs, series = Bytes(sections.get(4, b"")), Bytes(sections.get(5, b"")), [], []
    ends = 0
    for row, tenant in enumerate(owners):
        if row % 16 == 0:
            need(taken.at == ends, "length of a group of labels")
            ends += groups.varint()
        kind = taken.byte()
        need(kind == 0 or row % 16, "a group of labels begins with names")
        if kind == 0:
            pairs = [[taken.varint(), taken.varint()] for _ in range(taken.varint())]
        else:
            mask, pairs = taken.varint(), [list(pair) for pair in pairs]
            for at, pair in enumerate(pairs):
                if mask >> at & 1:
                    pair[1] = taken.varint()
        series.append((tenant, {symbols[name]: symbols[value] for name, value in pairs}))
    need(taken.left() == 0 and groups.left() == 0, "end of the labels")
    return series


def chunk_ends(sections, rows):
    """For each series, where its chunk rows end."""
    taken, ends = Bytes(sections.get(6, b"")), []
    while len(ends) < rows:
        chunks, count = taken.varint(), taken.varint()
        for _ in range(count):
            ends.append((ends[-1] if ends else 0) + chunks)
    need(taken.left() == 0 and len(ends) == rows, "chunk counts")
    return ends


def index(data_dir, block):
    """Resolution, series, where the chunks of each end, and the other objects by name."""
    where = os.path.join(data_dir, "objects", block["name"])
    with open(os.path.join(where, "index.bin"), "rb") as file:
        raw = file.read()
    magic, version, features, count = struct.unpack("<8sHQH", raw[:20])
    need(magic == b"TFBLOCK\n" and version == 2 and features & ~7 == 0, "header of an index")
    head = 20 + 32 * count
    checksum = struct.unpack("<I", raw[head:head + 4])[0]
    need(checksum == crc32c(raw[:head]) == block["index_checksum"], "checksum of an index")
    sections = {}
    for at in range(20, head, 32):
        kind, coding, _, offset, stored, size, check = struct.unpack("<HBBQQQI", raw[at:at + 32])
        data = raw[offset:offset + stored]
        need(crc32c(data) == check, "checksum of a section")
        sections[kind] = unzstd(data, size) if coding == 1 else data
    meta = Bytes(sections[1])
    counts = [meta.varint() for _ in range(5)]
    if meta.byte():
        need([meta.signed(), meta.signed()] == block["range"], "range of a block")
    objects = {}
    for name in ["chunks", "series", "ts", "exemplars"][:meta.byte()]:
        size, _ = meta.varint(), meta.varint()
        with open(os.path.join(where, name + ".parquet"), "rb") as file:
            data = file.read()
        need(len(data) == size, "size of an object")
        for at in range(0, size, 16384):
            need(struct.unpack("<I", meta.take(4))[0] == crc32c(data[at:at + 16384]), "stripe of an object")
        objects[name] = data
    need(counts[:4] == [block[key] for key in ("series", "chunks", "samples", "histograms")], "counts of a block")
    need((features & 4 != 0) == (10 in sections), "a resolution")
    series, ends = index_series(sections, counts[0]), chunk_ends(sections, counts[0])
    check_look_ups(sections, series)
    return sections.get(10, b"raw").decode(), series, ends, objects
