"""Pages of pco 1.x in its wrapped format, as far as `codecs.md` has them: one chunk, one page; modes Classic, FloatMult and
FloatQuant; no deltas or consecutive ones."""

import struct

from reader_bytes import need

BATCH, STATES = 256, 4


class Bits:
    """Takes bits off the front, lowest first."""

    def __init__(self, data):
        self.all, self.at, self.end = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, count):
        need(self.at + count <= self.end, "a page is cut short")
        self.at += count
        return self.all >> self.at - count & (1 << count) - 1

    def align(self):
        self.at = (self.at + 7) // 8 * 8


class Variable:
    """One of the interleaved numbers of a page: bins, and the table of the entropy coder (tANS)."""

    def __init__(self, bits, width):
        self.width, self.log, count = width, bits.take(4), bits.take(15)
        need(count <= 1 << self.log, "more bins than states")
        self.bins = [
            (bits.take(self.log) + 1, bits.take(width), bits.take(width.bit_length())) for _ in range(count)]
        weights = [weight for weight, _, _ in self.bins] or [1]
        size = 1 << self.log
        need(sum(weights) == size, "weights of the bins")
        stride = 3 * size // 5
        stride += stride % 2 == 0
        symbols, step = [0] * size, 0
        for symbol, weight in enumerate(weights):
            for _ in range(weight):
                symbols[stride * step % size] = symbol
                step += 1
        self.nodes, seen = [], list(weights)
        for symbol in symbols:
            read = size.bit_length() - seen[symbol].bit_length()
            self.nodes.append((symbol, (seen[symbol] << read) - size, read))
            seen[symbol] += 1

    def begin(self, bits, order):
        self.moments = [bits.take(self.width) for _ in range(order)]
        self.states = [bits.take(self.log) for _ in range(STATES)]

    def batch(self, bits, left):
        """The next numbers of the page, of which so many are left."""
        count = min(BATCH, max(0, left - len(self.moments)))
        found = [0] * count
        if len(self.bins) > 1:
            for i in range(count):
                symbol, base, read = self.nodes[self.states[i % STATES]]
                self.states[i % STATES] = base + bits.take(read)
                found[i] = symbol
        if self.bins:
            found = [self.bins[symbol][1] + bits.take(self.bins[symbol][2]) for symbol in found]
        mask = (1 << self.width) - 1
        out = [number & mask for number in found] + [0] * (min(BATCH, left) - count)
        if self.moments:
            out = [number ^ 1 << self.width - 1 for number in out]
            for place in reversed(range(len(self.moments))):
                for i, difference in enumerate(out):
                    out[i] = self.moments[place]
                    self.moments[place] = self.moments[place] + difference & mask
        return out


def variables(taken, width, count):
    """Mode with its setting, and the numbers of each variable."""
    bits = Bits(taken.take(taken.left()))
    major, _ = bits.take(8), bits.take(8)
    need(major == 4, f"pco format {major}")
    mode = bits.take(4)
    need(mode in (0, 2, 3), f"pco mode {mode}")
    setting = bits.take({0: 0, 2: width, 3: 8}[mode])
    delta, order, second = bits.take(4), 0, False
    need(delta in (0, 1), f"pco deltas {delta}")
    if delta:
        order, second = bits.take(3), bool(bits.take(1))
    own = [Variable(bits, width) for _ in range(1 if mode == 0 else 2)]
    bits.align()
    for place, variable in enumerate(own):
        variable.begin(bits, order if place == 0 or second else 0)
    bits.align()
    numbers = [[] for _ in own]
    while len(numbers[0]) < count:
        left = count - len(numbers[0])
        for variable, out in zip(own, numbers):
            out += variable.batch(bits, left)
    return mode, setting, numbers


def pco_numbers(taken, width, count):
    """Unsigned numbers of so many bytes."""
    mode, _, numbers = variables(taken, 8 * width, count)
    need(mode == 0, "numbers are in mode Classic")
    return numbers[0]


SIGN, ALL = 1 << 63, (1 << 64) - 1


def unordered(number):
    """The bits of the float that stands at this place of all floats."""
    return number ^ (SIGN if number & SIGN else ALL)


def ordered(bits):
    return bits ^ (ALL if bits & SIGN else SIGN)


def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def bits_of(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def whole(number):
    """The whole number that stands at this place of all whole floats."""
    size = (number if number & SIGN else ~number) & SIGN - 1
    linear = 1 << 53
    value = float(size) if size < linear else float_of(bits_of(float(linear)) - linear + size)
    return value if number & SIGN else -value


def pco_floats(taken, count):
    mode, setting, numbers = variables(taken, 64, count)
    if mode == 0:
        return [unordered(number) for number in numbers[0]]
    out = []
    for first, second in zip(*numbers):
        if mode == 2:
            place = ordered(bits_of(whole(first) * float_of(unordered(setting)))) + second ^ SIGN
            out.append(unordered(place & ALL))
        else:
            low = (1 << setting) - 1
            is_negative = first < SIGN >> setting
            out.append(((first << setting) ^ second ^ (ALL ^ low if is_negative else SIGN)) & ALL)
    return out
