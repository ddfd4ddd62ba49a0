#!/usr/bin/env python3
"""Reads a data directory of Taffrail by nothing but these pages: the map of partitions, manifests, snapshots, the log, and
blocks with all that is in them: indexes, look-ups, Parquet tables, codecs. Prints JSON; floats as the hexadecimal digits of their
64 bits. Python's standard library and the system's libzstd.

    python3 reader.py DATA_DIR
"""

import json
import os
import struct
import sys

sys.dont_write_bytecode = True

from reader_block import rows
from reader_bytes import Bytes, crc32c, need, wrap
from reader_index import index


def read(*parts):
    with open(os.path.join(*parts), "rb") as file:
        return file.read()


# partitions.md

def partitions(data_dir):
    stored = json.loads(read(data_dir, "objects", "partitions.json"))
    need(stored["version"] in (1, 2, 3) and stored["required_features"] == 0, "partitions.json is of a later version")
    summed = struct.pack("<IQ", stored["version"], stored["required_features"])
    for epoch in stored["epochs"]:
        summed += struct.pack("<qHB", epoch["from_ms"], epoch["partitions"], epoch.get("whole_histograms", False))
    for epoch in stored.get("entries", []):
        summed += struct.pack("<qH", epoch["from_ms"], epoch["partitions"])
    need(crc32c(summed) == stored["checksum"], "checksum of partitions.json")
    return max(epoch["partitions"] for epoch in stored["epochs"])


# manifest.md

def manifest(data_dir, partition, number):
    raw = read(data_dir, "objects", "manifest", f"{partition:04}", f"{number:020}.json")
    magic, version, length, features, checksum, header = struct.unpack("<8sIIQII", raw[:32])
    need(magic == b"TAFFRMAN" and header == crc32c(raw[:28]), "header of a manifest")
    need(version == 1, f"manifest of version {version}")
    need(features & ~3 == 0, f"manifest with features {features}")
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

def hexed(value):
    """Floats as digits: all numbers of a row but instants are."""
    return f"{value:016x}"


def block_rows(data_dir, block):
    resolution, series, ends, objects = index(data_dir, block)
    found, exemplars, codecs = rows(ends, objects)
    need(len(found["samples"]) == (block["samples"] if resolution == "raw" else 0), "samples of a block")
    return {
        "name": block["name"], "level": block["level"], "resolution": resolution, "series": series, "codecs": codecs,
        "exemplars": exemplars,
        "samples": [[row, at, hexed(bits), since] for row, at, bits, since in found["samples"]],
        "histograms": found["histograms"],
        "windows": [[row, at, [hexed(bits) for bits in figures], ended] for row, at, figures, ended in found["windows"]],
        "histogram_windows": found["histogram_windows"],
    }


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
            "blocks": [block_rows(data_dir, block) for block in state["blocks"]],
            "head_series": head.series,
            "log_samples": [[*head.series[number], ms, f"{bits:016x}"] for number, ms, bits in head.samples],
            "log_histograms": head.histograms, "log_exemplars": head.exemplars,
            "metadata": [[*key, *value] for key, value in head.metadata.items()],
        } for state, head in zip(states, heads)],
        "log_records": replayed,
    }, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
