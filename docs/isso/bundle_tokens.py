"""The gzip bytes of a stream of deflate tokens (docs/spec/tokens.md), for verify_bundle.py, which asks this file where
it lies beside it. It knows nothing of the content: whether the bytes are right, the blob's sha256 says afterwards."""
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)  # RFC 1951, 3.2.7
SEGMENT = 16 << 20  # R-LIM-41
EXTRA = [0] * 8 + [bits for bits in (1, 2, 3, 4, 5) for _ in range(4)] + [0]  # of length symbols from 257 on
BASES = [sum(1 << bits for bits in EXTRA[:symbol]) for symbol in range(28)] + [255]  # their lengths less 3
LENGTHS = {}  # length less 3: symbol, extra bits, their number; 256 is 258 written as symbol 284 (R-TOK-13)
for number, base in enumerate(BASES):
    LENGTHS.update({base + more: (257 + number, more, EXTRA[number]) for more in range(1 << EXTRA[number])})
LENGTHS[255], LENGTHS[256] = (285, 0, 0), (284, 31, 5)

def need(fine, why):
    if not fine:
        raise ValueError(f"deflate tokens: {why}")

class Stream:
    """Bytes that are taken from the front."""
    def __init__(self, data):
        self.data, self.at = data, 0
    def left(self):
        return len(self.data) - self.at
    def take(self, count):
        need(count <= self.left(), "a stream ends early")
        self.at += count
        return self.data[self.at - count:self.at]
    def byte(self):
        return self.take(1)[0]
    def number(self):
        """LEB128 in at most five bytes (R-TOK-2)."""
        value = 0
        for place in range(5):
            byte = self.byte()
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        need(False, "no number")

def words(lengths):
    """Code words by symbol, last bit first, with their lengths (RFC 1951, 3.2.2); no more than there is room for."""
    need(sum(1 << 15 - length for length in lengths if length) <= 1 << 15, "code lengths that are no code")
    code, result = 0, {}
    for length in range(1, 16):
        for symbol in (symbol for symbol, own in enumerate(lengths) if own == length):
            result[symbol] = (int(f"{code:0{length}b}"[::-1], 2), length)
            code += 1
        code <<= 1
    return result

def merged(counts, most):
    """Code lengths from counts by package-merge (R-TOK-22)."""
    symbols = sorted((count, symbol) for symbol, count in enumerate(counts) if count)
    taken = [0] * len(symbols)
    if len(symbols) <= 2:
        taken = [1] * len(symbols)
    else:
        own, lists, pairs = [(count, True) for count, _ in symbols], [], []
        for _ in range(min(most, len(symbols) - 1)):
            lists.append(sorted(pairs + own, key=lambda item: item[0]))  # stable: pairs first
            weights = [weight for weight, _ in lists[-1]]
            pairs = [(one + two, False) for one, two in zip(weights[::2], weights[1::2])]
        count = 2 * len(symbols) - 2
        for items in reversed(lists):
            single = sum(is_symbol for _, is_symbol in items[:count])
            taken[:single] = [length + 1 for length in taken[:single]]
            count = 2 * (count - single)
    result = [0] * len(counts)
    for (_, symbol), length in zip(symbols, taken):
        result[symbol] = length
    return result

def heaped(counts, most):
    """Code lengths from counts by a heap (R-TOK-23)."""
    heap, nodes = [None], {}  # of node numbers from place 1 on; count and height of each
    def add(symbol, count):
        heap.append(symbol)
        nodes[symbol] = (count, 0)
    def sink(place):
        node = heap[place]
        while 2 * place < len(heap):
            below = 2 * place
            if below + 1 < len(heap) and nodes[heap[below + 1]] <= nodes[heap[below]]:
                below += 1
            if nodes[node] <= nodes[heap[below]]:
                break
            heap[place], place = heap[below], below
        heap[place] = node
    for symbol, count in enumerate(counts):
        if count:
            add(symbol, count)
    while len(heap) < 3:
        after = max(heap[1:], default=-1) + 1
        add(after if after < 2 else 0, 1)
    for place in range((len(heap) - 1) // 2, 0, -1):
        sink(place)
    notes, number = [], len(counts)
    while len(heap) > 2:
        one, last = heap[1], heap.pop()
        heap[1] = last
        sink(1)
        two = heap[1]
        (first, low), (second, high) = nodes[one], nodes[two]
        nodes[number] = (first + second, max(low, high) + 1)
        notes += [(one, number), (two, number)]
        heap[1] = number
        sink(1)
        number += 1
    depth, deep = {number - 1: 0}, 0
    for node, father in reversed(notes):
        depth[node] = min(depth[father] + 1, most)
        deep += depth[father] + 1 > most
    leaves = [node for node, _ in notes if node < len(counts)]
    if deep:
        number = [sum(depth[leaf] == length for leaf in leaves) for length in range(most + 1)]
        while deep > 0:
            length = max(length for length in range(1, most) if number[length])
            number[length] -= 1
            number[length + 1] += 2
            number[most] -= 1
            deep -= 2
        lengths = (length for length in range(most, 0, -1) for _ in range(number[length]))
        depth.update(zip(leaves, lengths))
    return [depth.get(symbol, 0) for symbol in range(len(counts))]

def queued(counts, most):
    """Code lengths from counts by two queues (R-TOK-26)."""
    symbols = sorted((count, symbol) for symbol, count in enumerate(counts) if count)
    if len(symbols) <= 2:
        return merged(counts, most)
    weights, fathers, leaf, inner = [count for count, _ in symbols], {}, 0, len(symbols)
    for father in range(len(symbols), 2 * len(symbols) - 1):
        weight = 0
        for _ in range(2):
            if inner >= len(weights) or leaf < len(symbols) and weights[leaf] <= weights[inner]:
                node, leaf = leaf, leaf + 1
            else:
                node, inner = inner, inner + 1
            fathers[node] = father
            weight += weights[node]
        weights.append(weight)
    depth = {len(weights) - 1: 0}
    for node in range(len(weights) - 2, -1, -1):
        depth[node] = depth[fathers[node]] + 1
    lengths = sorted((depth[node] for node in range(len(symbols))), reverse=True)
    if lengths[0] > most:
        return merged(counts, most)
    result = [0] * len(counts)
    for (_, symbol), length in zip(symbols, lengths):
        result[symbol] = length
    return result

def tree_runs(lengths):
    """What is written for the lengths of one alphabet (R-TOK-25)."""
    at = 0
    while at < len(lengths):
        length, count, first = lengths[at], 1, True
        while at + count < len(lengths) and lengths[at + count] == length:
            count += 1
        at += count
        while count:
            step = min(count, 138 if not length else 7 if first else 6)
            count, lead, first = count - step, bool(length) and first, False
            again = step - lead
            if again < 3:
                yield from [(length, 0, 0)] * step
                continue
            if lead:
                yield length, 0, 0
            yield (16, again - 3, 2) if length else (17, again - 3, 3) if again <= 10 else (18, again - 11, 7)

def runs(lengths):
    """What is written for these lengths (R-TOK-24): symbol, extra bits, their number."""
    at = 0
    while at < len(lengths):
        length, count = lengths[at], 1
        while at + count < len(lengths) and lengths[at + count] == length:
            count += 1
        at += count
        if length:
            yield length, 0, 0
            count -= 1
        while count >= (3 if length else 11):
            step = min(count, 6 if length else 138)
            yield (16, step - 3, 2) if length else (18, step - 11, 7)
            count -= step
        if not length and count >= 3:
            yield 17, count - 3, 3
            count = 0
        for _ in range(count):
            yield length, 0, 0

class Decoder:
    def __init__(self, limit):
        self.limit, self.given, self.place, self.last = limit, 0, "start", False
        self.out, self.bits, self.filled = bytearray(), 0, 0
        self.literals = self.distances = None
    def put(self, value, count):
        self.bits |= value << self.filled
        self.filled += count
        if self.filled >= 1024:
            self.out += (self.bits & (1 << 1024) - 1).to_bytes(128, "little")
            self.bits, self.filled = self.bits >> 1024, self.filled - 1024
    def align(self, padding):
        """Fills the last byte with these bits (R-TOK-10)."""
        need(padding < 1 << -self.filled % 8, "padding that does not fit")
        self.put(padding, -self.filled % 8)
        self.out += self.bits.to_bytes(self.filled // 8, "little")
        self.bits = self.filled = 0
    def segment(self, streams):
        self.control, self.commands, self.longer, self.text, self.high, self.near, self.far = map(Stream, streams)
        self.recent, self.run, self.length = [0, 1, 2, 3], 0, None
        while self.control.left():
            self.record(self.control.byte())
            need(self.given + len(self.out) + self.filled // 8 <= self.limit, "more bytes than were signed")
        left = (self.commands, self.longer, self.text, self.high, self.near, self.far)
        need(not any(stream.left() for stream in left) and self.length is None, "a segment holds more than its blocks")
        data, self.out = bytes(self.out), bytearray()
        self.given += len(data)
        return data
    def record(self, record):
        """One record of the control stream where it may come (R-TOK-7, R-TOK-8, R-TOK-12)."""
        control, last, cut, kind = self.control, record & 1, record & 2, record >> 2 & 3
        if record == 0 and self.place in ("between", "tail"):
            self.place = "end"
        elif record == 1 and self.place in ("start", "between"):
            self.out += control.take(control.number())
            self.place = "blocks"
        elif record == 2 and self.place == "trailer":
            self.align(control.byte())
            self.out += control.take(8)
            self.place = "between"
        elif record == 3 and self.place in ("between", "tail"):
            self.out += self.text.take(control.number())
            self.place = "tail"
        elif record in (4, 12) and self.place == "inside":
            self.symbols(control.number())
            self.end(self.last, record == 12)
        elif record & 0xf0 == 0x40 and self.place == "blocks":
            number = control.number()
            self.put(last | (0, 1, 2, 2)[kind] << 1, 3)
            need(not cut or kind, "an unknown block")
            if kind == 0:
                self.align(control.byte())
                need(number < 1 << 16, "a stored block of over 65535 bytes")
                self.out += (number | (number ^ 0xffff) << 16).to_bytes(4, "little") + self.text.take(number)
                self.place = "trailer" if last else "blocks"
                return
            symbols = None
            if kind == 1:
                self.codes([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 32)
            elif kind == 2:
                self.written_out(control)
            else:
                method = control.byte()
                need(0 < method < 7, "an unknown way to foretell a block's head")
                need(method in (3, 4, 5) or number <= 1 << 16 and not cut, "a block's head that cannot be foretold")
                symbols = list(self.next(number))
                self.foretold(symbols, method)
            self.symbols(number, symbols)
            self.end(last, cut)
        else:
            need(False, "an unknown record, or out of place")
    def end(self, last, cut):
        self.last, self.place = last, "inside"
        if not cut:
            self.put(*self.word(self.literals, 256))
            self.place = "trailer" if last else "blocks"
    def codes(self, literals, distances):
        self.literals, self.distances = words(literals), words(distances)
    def word(self, code, symbol):
        need(symbol in code, "a symbol that the block's code lacks")
        return code[symbol]
    def head(self, literals, distances, order, writes):
        """A dynamic block's head (RFC 1951, 3.2.7): two alphabets, the code length code, what is written with it."""
        lengths = [0] * 19
        for symbol, length in zip(ORDER, order):
            lengths[symbol] = length
        need(literals[256:257] not in ([], [0]) and max(lengths) < 8, "a block's head is none")
        self.put(len(literals) - 257 | len(distances) - 1 << 5 | len(order) - 4 << 10, 14)
        for length in order:
            self.put(length, 3)
        code = words(lengths)
        for symbol, extra, bits in writes:
            self.put(*self.word(code, symbol))
            self.put(extra, bits)
        self.codes(literals, distances)
    def written_out(self, control):
        """R-TOK-17."""
        literals, distances, orders = control.byte() + 257, control.byte() + 1, control.byte()
        need(literals <= 286 and distances <= 30 and 4 <= orders <= 19, "a block's head is none")
        order, lengths, writes = list(control.take(orders)), [], []
        while len(lengths) < literals + distances:
            byte = control.byte()
            need(byte < 156 and (lengths or not 16 <= byte < 20), "a block's head is none")
            lengths += [byte] if byte < 16 else lengths[-1:] * (byte - 13) if byte < 20 else [0] * (byte - 17)
            writes.append((byte, 0, 0) if byte < 16 else (16, byte - 16, 2) if byte < 20 else
                          (17, byte - 20, 3) if byte < 28 else (18, byte - 28, 7))
        need(len(lengths) == literals + distances, "a block's head is none")
        self.head(lengths[:literals], lengths[literals:], order, writes)
    def foretold(self, symbols, method):
        """R-TOK-18 and 19."""
        literals, distances, content = [0] * 286, [0] * 30, 0
        literals[256] = 1
        for symbol, extra, _, distance, _, _ in symbols:
            literals[symbol] += 1
            if symbol > 256:
                distances[distance] += 1
            content += 1 if symbol < 256 else BASES[symbol - 257] + extra + 3
            if method in (3, 4, 5) and content >= 65535:
                break
        if method not in (2, 3) and not any(distances):
            distances[0] = 1
        code = {1: merged, 2: heaped, 3: merged, 4: merged, 5: queued, 6: queued}[method]
        both = [code(literals, 15), code(distances, 15)]
        if method != 3:
            both = [lengths[:max(symbol for symbol, length in enumerate(lengths) if length) + 1] for lengths in both]
        writes = [*tree_runs(both[0]), *tree_runs(both[1])] if method == 2 else list(runs(both[0] + both[1]))
        counts = [0] * 19
        for symbol, _, _ in writes:
            counts[symbol] += 1
        lengths = code(counts, 7)
        order = [lengths[symbol] for symbol in ORDER]
        while len(order) > 4 and not order[-1]:
            order.pop()
        self.head(*both, order, writes)
    def next(self, count):
        """The next symbols (R-TOK-13 to 16): symbol, extra bits, their number; the same of the distance."""
        while count:
            if self.length is None and not self.commands.left():
                self.run = count
            elif self.length is None:
                byte = self.commands.byte()
                self.run, self.length = byte >> 5, byte & 31
                if self.run == 7:
                    self.run += self.longer.number()
                    need(self.run <= SEGMENT, "a run of literals is no number")
                if self.length == 31:
                    self.length += self.longer.byte()
                    need(self.length <= 256, "a length beyond 258")
            taken = min(self.run, count)
            for byte in self.text.take(taken):
                yield byte, 0, 0, 0, 0, 0
            self.run, count = self.run - taken, count - taken
            if count and self.length is not None:
                less, count = self.distance(), count - 1
                bits = max(less.bit_length() - 2, 0)
                symbol = less if less < 4 else 2 * bits + 2 + (less >> bits & 1)
                yield *LENGTHS[self.length], symbol, less & (1 << bits) - 1, bits
                self.length = None
    def distance(self):
        """R-TOK-15, less 1."""
        high = self.high.byte()
        need(high < 132, "a distance beyond the window")
        if high >= 128:
            less = self.recent.pop(high - 128)
        else:
            less = high << 8 | (self.far if high else self.near).byte()
            self.recent.pop()
        self.recent.insert(0, less)
        return less
    def symbols(self, count, symbols=None):
        for symbol, extra, bits, distance, more, wide in symbols if symbols is not None else self.next(count):
            self.put(*self.word(self.literals, symbol))
            if symbol > 256:
                self.put(extra, bits)
                self.put(*self.word(self.distances, distance))
                self.put(more, wide)

def gzip(chunks, limit):
    """Gives the gzip bytes of a token stream that comes in these chunks, at most `limit` bytes (R-TOK-1 to 6)."""
    buffer, decoder = bytearray(), Decoder(limit)
    def take(count):
        while len(buffer) < count:
            more = next(chunks, b"")
            need(more, "cut short")
            buffer.extend(more)
        data = bytes(buffer[:count])
        del buffer[:count]
        return data
    need(take(1) == b"\2", "an unknown version")
    while decoder.place != "end":
        sizes = []
        for _ in range(7):
            number = b""
            while not number or number[-1] > 127 and len(number) < 5:
                number += take(1)
            sizes.append(Stream(number).number())
            need(sum(sizes) <= SEGMENT, "a segment longer than it may be")
        yield decoder.segment([take(size) for size in sizes])
    need(not buffer and not next(chunks, b""), "bytes behind the end")
