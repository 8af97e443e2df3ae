"""Encoder of integer streams: int64 values to bytes, exact for all of int64 (arithmetic is modulo 2^64).

Layout (docs/wire-format.md has it byte by byte)
------------------------------------------------
head byte: predictor in bits 0-3, coder of the residuals in bits 4-5, bit 6 if a divisor follows
zigzag varint base, [varint divisor], the predictor's parameters, [stream of the groups' firsts], residuals

The encoder divides the distances from the first value by their greatest common divisor (ns that are whole ms,
float32 held in double), computes what each predictor leaves, and takes the predictor whose residuals have the
least order-0 entropy, tables and parameters counted. GROUP_* predict from the previous row of the same group
(the same device), which is what makes interleaved walks small. Comparing costs as much as coding: a caller
who knows what the last block of the same column took may name that predictor.
"""

from forebay_core._bits cimport bit_length, magnitude, put_varint, zigzag
from forebay_core._ints cimport (
    CENTRED, CONSTANT, DELTA, DOD, FRAME, GROUP_DELTA, GROUP_DOD, KINDS, LINEAR, SCALED, check_groups
)
from forebay_core._residuals cimport put_residuals, residuals_bound, residuals_cost, scratch_bound
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef enum:
    SAMPLES = 31


cdef struct Model:
    int kind
    uint64_t bias      # subtracted from every raw residual
    uint64_t slope     # LINEAR: whole units a row
    uint64_t fraction  # LINEAR: 1/65536 units a row
    int64_t count      # residuals
    int64_t firsts     # GROUP_*: rows that are the first of their group
    uint64_t low       # least and greatest first
    uint64_t high


cdef struct Work:
    uint64_t* y       # n values after base and divisor
    uint64_t* u       # n residuals
    uint64_t* firsts  # n
    uint64_t* last    # n_groups: latest value
    uint64_t* step    # n_groups: latest delta
    uint8_t* seen     # n_groups
    uint64_t* samples  # residuals of each kind on the sample
    uint8_t* scratch
    int64_t n_groups


cdef uint64_t sampled_median(const uint64_t* d, int64_t n) noexcept nogil:
    """Return the median (as signed) of at most SAMPLES evenly spaced values."""
    cdef int64_t[31] kept
    cdef int64_t count = min(n, <int64_t>SAMPLES), i, j, value
    if n == 0:
        return 0
    for i in range(count):
        value = <int64_t>d[i * n // count]
        j = i
        while j > 0 and kept[j - 1] > value:
            kept[j] = kept[j - 1]
            j -= 1
        kept[j] = value
    return <uint64_t>kept[count // 2]


cdef inline uint64_t inverse_of(uint64_t odd) noexcept nogil:
    """Return the inverse of an odd number modulo 2^64 (Newton's iteration, from 3 right bits)."""
    cdef uint64_t x = odd
    cdef int _i
    for _i in range(5):
        x *= 2 - odd * x
    return x


cdef uint64_t common_divisor(const int64_t* x, int64_t n) noexcept nogil:
    """Return the gcd of the distances from x[0]; 0 if all values are equal."""
    cdef uint64_t g = 0, a, b, r, inverse = 0, most = 0
    cdef int64_t i
    cdef int shift = 0
    for i in range(1, n):
        a = magnitude(<uint64_t>x[i] - <uint64_t>x[0])
        # g divides a just when a's low bits are 0 and the rest times the inverse is a small number
        # (Granlund and Montgomery, "Division by invariant integers using multiplication", section 9).
        if a == 0 or (g != 0 and (a >> shift) << shift == a and (a >> shift) * inverse <= most):
            continue
        b = g
        while b:
            r = a % b
            a = b
            b = r
        g = a
        if g == 1:
            break
        shift = 0
        while not (g >> shift) & 1:
            shift += 1
        inverse = inverse_of(g >> shift)
        most = (<uint64_t>0 - 1) // (g >> shift)
    return g


cdef void divide_distances(const int64_t* x, int64_t n, uint64_t g, uint64_t* y) noexcept nogil:
    """Leave (x[i] - x[0]) / g in y; g divides all of them, so shift and inverse do it without a division."""
    cdef uint64_t base = <uint64_t>x[0], d, q, inverse
    cdef int64_t i
    cdef int shift = 0
    if g == 1:
        for i in range(n):
            y[i] = <uint64_t>x[i] - base
        return
    while not (g >> shift) & 1:
        shift += 1
    inverse = inverse_of(g >> shift)
    for i in range(n):
        d = <uint64_t>x[i] - base
        q = (magnitude(d) >> shift) * inverse
        y[i] = 0 - q if d >> 63 else q


cdef void fit_line(Model* m, const uint64_t* y, int64_t n) noexcept nogil:
    """Slope from the mean distance of values half the rows apart, rounded to whole units where that fits."""
    cdef int64_t half = n // 2, i, total = 0, rows, whole, rest
    cdef uint64_t sum_ = 0
    if half == 0:
        return
    for i in range(n - half):
        sum_ += y[i + half] - y[i]
    total = <int64_t>sum_
    rows = half * (n - half)
    whole = total // rows
    rest = total - whole * rows
    if rest < 0:  # C division truncates
        whole -= 1
        rest += rows
    m.slope = <uint64_t>whole
    m.fraction = (<uint64_t>rest << 16) // <uint64_t>rows
    if m.fraction * <uint64_t>n < 131072:
        m.fraction = 0
    elif (65536 - m.fraction) * <uint64_t>n < 131072:
        m.fraction = 0
        m.slope += 1


cdef void predict_groups(
    Model* m, const uint64_t* y, int64_t n, const int32_t* groups, int64_t stride, Work* w
) noexcept nogil:
    """Leave the raw residuals against the group's row before in w.u: of every stride-th run of 16 rows."""
    cdef int64_t i, stop, count = 0, firsts = 0, first = 0, wanted = 0
    cdef int32_t g
    cdef uint64_t value, d
    cdef bint twice = m.kind == GROUP_DOD, keeps
    # In registers: after a write to `seen` the compiler would load each of them from w again.
    cdef uint64_t* u = w.u
    cdef uint64_t* last = w.last
    cdef uint64_t* step = w.step
    cdef uint8_t* seen = w.seen
    memset(seen, 0, w.n_groups)
    if twice:
        memset(step, 0, w.n_groups * sizeof(uint64_t))
    while first < n:
        stop = n if stride == 1 else min(first + 16, n)
        keeps = first == wanted
        if keeps:
            wanted += 16 * stride
        for i in range(first, stop):
            g = groups[i]
            value = y[i]
            if not seen[g]:
                seen[g] = 1
                last[g] = value
                w.firsts[firsts] = value
                if firsts == 0 or <int64_t>value < <int64_t>m.low:
                    m.low = value
                if firsts == 0 or <int64_t>value > <int64_t>m.high:
                    m.high = value
                firsts += 1
                continue
            d = value - last[g]
            last[g] = value
            if twice:
                value = d
                d -= step[g]
                step[g] = value
            u[count] = d
            count += keeps
        first = stop
    m.count = count
    m.firsts = firsts


cdef void predict_rows(Model* m, const uint64_t* y, int64_t n, int64_t stride, Work* w) noexcept nogil:
    """Leave the raw residuals of every stride-th run of 16 rows in w.u."""
    cdef int64_t count = 0, first = 0, i, stop
    while first < n:
        stop = n if stride == 1 else min(first + 16, n)
        if m.kind == DELTA:
            for i in range(max(first, <int64_t>1), stop):
                w.u[count] = y[i] - y[i - 1]
                count += 1
        elif m.kind == DOD:
            for i in range(max(first, <int64_t>2), stop):
                w.u[count] = y[i] - 2 * y[i - 1] + y[i - 2]
                count += 1
        else:  # slope and fraction are 0 for FRAME and CENTRED
            for i in range(first, stop):
                w.u[count] = y[i] - (m.slope * <uint64_t>i + ((m.fraction * <uint64_t>i) >> 16))
                count += 1
        first = n if stride == 1 else first + 16 * stride
    m.count = count


cdef void apply_model(
    Model* m, const uint64_t* y, int64_t n, const int32_t* groups, int64_t stride, Work* w
) noexcept nogil:
    """Fit m.kind to y, leave its residuals in w.u."""
    cdef int64_t i
    m.bias = m.slope = m.fraction = 0
    m.low = m.high = 0
    m.firsts = 0
    if m.kind >= GROUP_DELTA:
        predict_groups(m, y, n, groups, stride, w)
    else:
        if m.kind == LINEAR:
            fit_line(m, y, n)
        predict_rows(m, y, n, stride, w)
    if m.kind == FRAME:
        m.bias = w.u[0]
        for i in range(m.count):
            if <int64_t>w.u[i] < <int64_t>m.bias:
                m.bias = w.u[i]
        for i in range(m.count):
            w.u[i] -= m.bias
        return
    if m.kind != DOD and m.kind != GROUP_DOD:
        m.bias = sampled_median(w.u, m.count)
    for i in range(m.count):
        w.u[i] = zigzag(w.u[i] - m.bias)


cdef int64_t rough_size(const Model* m, int64_t stride, const uint64_t* u) noexcept nogil:
    """Return the sum of the residuals' bit lengths, firsts included."""
    cdef int64_t i, rough = m.firsts * bit_length(m.high - m.low) // stride
    for i in range(m.count):
        rough += bit_length(u[i])
    return rough


cdef int64_t sample_stride(int64_t n) noexcept nogil:
    """Of how many runs of 16 rows the choice looks at one: all of few rows, 1/28 of a long waveform."""
    return max(<int64_t>1, n // (256 + n // 32))


cdef int64_t sample_room(int64_t n) noexcept nogil:
    return n // sample_stride(n) + 32


cdef int choose(const uint64_t* y, int64_t n, const int32_t* groups, bint entropy, Work* w) noexcept nogil:
    """Return the kind with the least estimated size, judged on some runs of 16 rows."""
    cdef int64_t[8] rough
    cdef Model[8] models
    cdef int64_t best_rough = 0, cost, best = 0, stride = sample_stride(n), room = sample_room(n)
    cdef int kind, found = 0, kinds = KINDS if groups is not NULL else LINEAR + 1
    cdef uint64_t* u = w.u
    for kind in range(FRAME, kinds):
        models[kind].kind = kind
        w.u = w.samples + kind * room
        apply_model(&models[kind], y, n, groups, stride, w)
        rough[kind] = rough_size(&models[kind], stride, w.u)
        if kind == FRAME or rough[kind] < best_rough:
            best_rough = rough[kind]
        if rough[kind] == 0:
            w.u = u
            return kind
    w.u = u
    for kind in range(FRAME, kinds):
        # A bit a row is as far as entropy and mean bit length are seen to disagree.
        if rough[kind] > best_rough + n // stride:
            continue
        u = w.samples + kind * room
        cost = residuals_cost(u, models[kind].count, n - models[kind].firsts, entropy)
        if models[kind].firsts:
            cost += 48 + models[kind].firsts * bit_length(models[kind].high - models[kind].low)
        if kind >= DELTA:
            cost += 16
        if not found or cost < best:
            best = cost
            found = kind
    return found


cdef int64_t bound(int64_t n) noexcept nogil:
    return 2 * residuals_bound(n) + 256


cdef bint allocate(Work* w, int64_t n, int64_t n_groups) noexcept nogil:
    """One block of memory for all work arrays; False when there is none. Freed through w.y."""
    cdef int64_t words = 3 * n + 2 * n_groups + KINDS * sample_room(n)
    cdef uint8_t* memory = <uint8_t*>malloc(8 * words + n_groups + scratch_bound(n))
    if memory is NULL:
        return False
    w.y = <uint64_t*>memory
    w.u = w.y + n
    w.firsts = w.u + n
    w.last = w.firsts + n
    w.step = w.last + n_groups
    w.samples = w.step + n_groups
    w.seen = memory + 8 * words
    w.scratch = w.seen + n_groups
    w.n_groups = n_groups
    return True


cdef int64_t put_ints(
    const int64_t* x, int64_t n, const int32_t* groups, int64_t n_groups, bint entropy, int kind,
    uint8_t* out, int64_t at
) noexcept nogil:
    """Write the stream at out[at:]; return the position after it, -1 without memory. kind 0: choose."""
    cdef uint64_t g = common_divisor(x, n), base = <uint64_t>x[0]
    cdef int64_t head = at
    cdef int coder = 0
    cdef Model m
    cdef Work w
    if g == 0:
        out[at] = CONSTANT
        return put_varint(out, at + 1, zigzag(base))
    if not allocate(&w, n, n_groups if groups is not NULL else 0):
        return -1
    divide_distances(x, n, g, w.y)
    if kind == CONSTANT or (kind >= GROUP_DELTA and groups is NULL):
        kind = choose(w.y, n, groups, entropy, &w)
    m.kind = kind
    apply_model(&m, w.y, n, groups, 1, &w)
    if m.kind == FRAME or m.kind == CENTRED or m.kind == LINEAR:
        base += m.bias * g
    at = put_varint(out, head + 1, zigzag(base))
    if g > 1:
        at = put_varint(out, at, g)
    if m.kind == DELTA or m.kind == GROUP_DELTA:
        at = put_varint(out, at, zigzag(m.bias))
    elif m.kind == DOD:
        at = put_varint(out, at, zigzag(w.y[1]))
    elif m.kind == LINEAR:
        at = put_varint(out, at, zigzag(m.slope))
        at = put_varint(out, at, m.fraction)
    if m.kind >= GROUP_DELTA:
        at = put_ints(<const int64_t*>w.firsts, m.firsts, NULL, 0, entropy, CONSTANT, out, at)
    if at >= 0:
        at = put_residuals(w.u, m.count, entropy, out, at, w.scratch, &coder)
        out[head] = <uint8_t>(m.kind | (coder << 4) | (SCALED if g > 1 else 0))
    free(w.y)
    return at


def encode_ints(
    const int64_t[::1] values not None, const int32_t[::1] groups=None, int64_t n_groups=0, bint entropy=True,
    int kind=0
):
    """Code an integer column as a self-delimiting stream.

    Parameters
    ----------
    values : int64 (n,)  IN
    groups : None or int32 (n,), group of each row, 0..n_groups - 1  IN
    n_groups : number of groups
    entropy : whether rANS may be used; else bit packing only
    kind : predictor to take without comparing, as the low four bits of an earlier stream's first byte have
        it; 0 compares. Equal values need none, and one that needs groups is not taken without them.

    Returns
    -------
    bytes : empty for no values

    Raises
    ------
    ValueError : groups of another length or out of range; a predictor that does not exist
    """
    cdef int64_t n = values.shape[0], size
    cdef const int32_t* first_group = NULL
    cdef uint8_t* out
    if groups is not None:
        check_groups(groups, n, n_groups)
        if n:
            first_group = &groups[0]
    if not 0 <= kind < KINDS:
        raise ValueError(f"expected a predictor from 0 to {KINDS - 1}")
    if n == 0:
        return b""
    out = <uint8_t*>malloc(bound(n))
    if out is NULL:
        raise MemoryError
    try:
        with nogil:
            size = put_ints(&values[0], n, first_group, n_groups, entropy, kind, out, 0)
        if size < 0:
            raise MemoryError
        return out[:size]
    finally:
        free(out)
