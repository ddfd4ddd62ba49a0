#!/usr/bin/env python3
"""Reads a data directory of Taffrail by nothing but these pages: the map of partitions, manifests, snapshots, the log,
and the indexes of blocks. Prints JSON. Python's standard library and the system's libzstd.

What it leaves out: the value dictionary and postings of an index (an FST, for look-ups), Parquet tables (any Parquet
library reads them) and the codecs of the chunks in them.

    python3 reader.py DATA_DIR
"""

import ctypes
import ctypes.util
import json
import os
import struct
import sys

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def need(right, what):
    if not right:
        raise ValueError(what)


class Bytes:
    """Takes numbers and texts off the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "cut short")
        self.at += count
        return self.data[self.at - count:self.at]

    def left(self):
        return len(self.data) - self.at

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def signed(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        return self.bytes().decode()


def wrap(value):
    """An integer of 64 bits, two's complement."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def read(*parts):
    with open(os.path.join(*parts), "rb") as file:
        return file.read()


# partitions.md

def partitions(data_dir):
    stored = json.loads(read(data_dir, "objects", "partitions.json"))
    need(stored["version"] in (1, 2) and stored["required_features"] == 0, "partitions.json is of a later version")
    summed = struct.pack("<IQ", stored["version"], stored["required_features"])
    for epoch in stored["epochs"]:
        summed += struct.pack("<qHB", epoch["from_ms"], epoch["partitions"], epoch.get("whole_histograms", False))
    need(crc32c(summed) == stored["checksum"], "checksum of partitions.json")
    return max(epoch["partitions"] for epoch in stored["epochs"])


# manifest.md

def manifest(data_dir, partition, number):
    raw = read(data_dir, "objects", "manifest", f"{partition:04}", f"{number:020}.json")
    magic, version, length, features, checksum, header = struct.unpack("<8sIIQII", raw[:32])
    need(magic == b"TAFFRMAN" and header == crc32c(raw[:28]), "header of a manifest")
    need(version == 1, f"manifest of version {version}")
    need(features & ~1 == 0, f"manifest with features {features}")
    need(len(raw) == 32 + length and crc32c(raw[32:]) == checksum, "content of a manifest")
    stored = json.loads(raw[32:])
    need((stored["partition"], stored["number"]) == (partition, number), "place of a manifest")
    return stored


def state_of(data_dir, partition):
    empty = {"number": 0, "covered": 0, "blocks": [], "snapshots": [], "tombstones": [], "next_object": 0}
    where = os.path.join(data_dir, "objects", "manifest", f"{partition:04}")
    names = os.listdir(where) if os.path.isdir(where) else []
    newest = max((int(name[:20]) for name in names), default=0)
    checkpoint = newest - newest % 32
    state = empty
    if checkpoint:
        state = {**empty, **manifest(data_dir, partition, checkpoint)["checkpoint"]}
    for number in range(checkpoint + 1, newest + 1):
        edit = manifest(data_dir, partition, number)["edit"]
        gone = edit["remove_blocks"]
        state["blocks"] = [b for b in state["blocks"] if b["name"] not in gone] + edit["add_blocks"]
        state["covered"] = edit.get("covered", state["covered"])
        state["snapshots"] = edit.get("snapshots", state["snapshots"])
        state["next_object"] = max(state["next_object"], edit["next_object"])
        dead = edit.get("remove_tombstones", [])
        state["tombstones"] = [t for t in state["tombstones"] if t["id"] not in dead] + edit.get("add_tombstones", [])
        state["number"] = number
    return state


# head-snapshot.md and log-records.md: series are named once and numbered from then on

class Head:
    def __init__(self):
        self.epoch, self.symbols, self.shapes, self.series, self.metadata = 0, [], [], [], {}
        self.samples, self.histograms, self.exemplars, self.deleted = [], 0, 0, 0

    def numbered(self, known, taken, count_of):
        """Things numbered from `first`: those that are known already must be the same."""
        first = taken.varint()
        for number in range(first, first + taken.varint()):
            one = count_of()
            need(number <= len(known), "a number that does not follow")
            if number == len(known):
                known.append(one)
            need(known[number] == one, "a number that means something else")

    def symbols_and_shapes(self, taken):
        self.numbered(self.symbols, taken, taken.text)
        self.numbered(self.shapes, taken, lambda: [taken.varint() for _ in range(taken.varint())])

    def labels(self, taken):
        shape = self.shapes[taken.varint()]
        return {self.symbols[name]: self.symbols[taken.varint()] for name in shape}

    def take_metadata(self, tenant, taken):
        family = taken.text()
        self.metadata[tenant, family] = [taken.take(1)[0], taken.text(), taken.text()]

    def snapshot(self, raw, checksum):
        magic, version, _, features = struct.unpack("<8sHHI", raw[:16])
        need(magic == b"TFRLHEAD" and version == 1 and features == 0, "header of a snapshot")
        need(struct.unpack("<I", raw[-4:])[0] == crc32c(raw[:-4]) == checksum, "checksum of a snapshot")
        taken = Bytes(raw[16:-4])
        self.epoch = taken.varint()
        self.symbols_and_shapes(taken)
        need(taken.varint() == len(self.series), "a snapshot that does not follow")
        count, tenants = taken.varint(), []
        while len(tenants) < count:
            tenants += [taken.varint()] * taken.varint()
        taken.take(16 * count)
        self.series += [(tenant, self.labels(taken)) for tenant in tenants]
        taken.take(8)
        for _ in range(count):
            taken.varint()
        for _ in range(taken.varint()):
            self.take_metadata(taken.varint(), taken)
        need(taken.left() == 0, "end of a snapshot")

    def record(self, kind, tenant, payload):
        taken = Bytes(payload)
        need(taken.take(1)[0] == 1, "version of a record")
        epoch = taken.varint()
        need(kind in (2, 6, 7) or epoch == self.epoch, "epoch of a record")
        if kind == 1:
            self.take_samples(tenant, taken)
        elif kind == 2:
            while taken.left():
                self.take_metadata(tenant, taken)
        elif kind == 3:
            while taken.left():
                taken.varint(), taken.signed(), taken.take(8), taken.bytes()
                self.exemplars += 1
        elif kind == 4:
            while taken.left():
                taken.varint(), taken.signed(), taken.bytes()
                self.histograms += 1
        elif kind == 6:
            json.loads(taken.take(taken.left()))
            self.deleted += 1
        elif kind == 7:
            while taken.left():
                self.metadata.pop((tenant, taken.text()), None)
        else:
            raise ValueError(f"record of kind {kind}")

    def take_samples(self, tenant, taken):
        new = Bytes(taken.bytes())
        if new.left():
            self.symbols_and_shapes(new)

            def one():
                new.take(16)
                return tenant, self.labels(new)

            self.numbered(self.series, new, one)
        for _ in ("ordered", "late"):
            count = taken.varint()
            numbers, times, values = Bytes(taken.bytes()), Bytes(taken.bytes()), Bytes(taken.bytes())
            number = ms = 0
            for _ in range(count):
                number, ms = number + numbers.signed(), wrap(ms + times.signed())
                control = values.take(1)[0]
                bits = int.from_bytes(values.take(control & 15), "little") << 8 * (control >> 4)
                self.samples.append((number, ms, bits))


# log.md

def log(data_dir, floor):
    """Sound records from a position on: (position, partition, tenant, kind, payload)."""
    names = sorted(name for name in os.listdir(os.path.join(data_dir, "log")) if name.endswith(".log"))
    end = None
    for name in reversed(names):
        raw, start = read(data_dir, "log", name), int(name[:20])
        magic, version, _, features, own, previous_end = struct.unpack("<8sIIQQQ", raw[:40])
        need(magic == b"TAFFRLOG" and struct.unpack("<I", raw[60:64])[0] == crc32c(raw[:60]), "header of a segment")
        need(version == 1 and features == 0 and own == start, "version or place of a segment")
        records, at = [], 64
        while at + 40 <= len(raw) and (end is None or start + at < end):
            head = raw[at:at + 40]
            if not any(head):
                break
            check, sum_of, length, partition, kind, tenant, position, _ = struct.unpack("<IIIHBxIxxxxQQ", head)
            need(check == crc32c(head[4:]) and position == start + at, "header of a record")
            payload = raw[at + 40:at + 40 + length]
            need(kind == 255 or (len(payload) == length and crc32c(payload) == sum_of), "payload of a record")
            if kind != 255 and position >= floor:
                records.append((position, partition, tenant, kind, payload))
            at += (40 + length + 7) // 8 * 8
        yield records
        end = previous_end
        if start <= floor:
            return


# block.md

def unzstd(data, size):
    library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(max(size, 1))
    done = library.ZSTD_decompress(out, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)))
    need(done == size, "a section that does not decompress")
    return out.raw[:size]


def index(data_dir, block):
    raw = read(data_dir, "objects", block["name"], "index.bin")
    magic, version, features, count = struct.unpack("<8sHQH", raw[:20])
    need(magic == b"TFBLOCK\n" and version == 2 and features & ~3 == 0, "header of an index")
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
    if meta.take(1)[0]:
        need([meta.signed(), meta.signed()] == block["range"], "range of a block")
    for name in ["chunks", "series", "ts", "exemplars"][:meta.take(1)[0]]:
        size, _ = meta.varint(), meta.varint()
        data = read(data_dir, "objects", block["name"], name + ".parquet")
        need(len(data) == size, "size of an object")
        for at in range(0, size, 16384):
            need(struct.unpack("<I", meta.take(4))[0] == crc32c(data[at:at + 16384]), "stripe of an object")
    need(counts[:4] == [block[key] for key in ("series", "chunks", "samples", "histograms")], "counts of a block")
    return index_series(sections, counts[0])


def index_series(sections, rows):
    texts = Bytes(sections[3])
    lengths = [texts.varint() for _ in range(texts.varint())]
    symbols = [texts.take(length).decode() for length in lengths]
    tenants, owners = Bytes(sections[2]), []
    for _ in range(tenants.varint()):
        tenant, own = tenants.varint(), tenants.varint()
        tenants.varint(), tenants.signed(), tenants.signed()
        owners += [tenant] * own
    need(len(owners) == rows, "series of the tenants")
    taken, pairs, series = Bytes(sections.get(4, b"")), [], []
    for tenant in owners:
        if taken.take(1)[0] == 0:
            pairs = [[taken.varint(), taken.varint()] for _ in range(taken.varint())]
        else:
            mask, pairs = taken.varint(), [list(pair) for pair in pairs]
            for at, pair in enumerate(pairs):
                if mask >> at & 1:
                    pair[1] = taken.varint()
        series.append((tenant, {symbols[name]: symbols[value] for name, value in pairs}))
    need(taken.left() == 0, "end of the labels")
    return series


def main(data_dir):
    states = [state_of(data_dir, partition) for partition in range(partitions(data_dir))]
    heads = []
    for state in states:
        head = Head()
        for snapshot in state["snapshots"]:
            head.snapshot(read(data_dir, "objects", snapshot["name"]), snapshot["checksum"])
        heads.append(head)
    replayed = 0
    for records in reversed(list(log(data_dir, min(state["covered"] for state in states)))):
        for position, partition, tenant, kind, payload in records:
            if position >= states[partition]["covered"]:
                heads[partition].record(kind, tenant, payload)
                replayed += 1
    json.dump({
        "partitions": [{
            "manifest": state["number"], "covered": state["covered"], "tombstones": state["tombstones"],
            "blocks": [{"name": block["name"], "level": block["level"], "samples": block["samples"],
                        "series": index(data_dir, block)} for block in state["blocks"]],
            "head_series": head.series,
            "log_samples": [[*head.series[number], ms, f"{bits:016x}"] for number, ms, bits in head.samples],
            "log_histograms": head.histograms, "log_exemplars": head.exemplars,
            "metadata": [[*key, *value] for key, value in head.metadata.items()],
        } for state, head in zip(states, heads)],
        "log_records": replayed,
    }, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
