"""What an alarm keeps per key: the last value of a field (carry) and whether it is raised (latch).

See _signal.pyx for codes, groups and state arrays.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

cdef enum:
    # see forebay.quality
    GOOD = 0
    MISSING = 128
    NULL_FROM = 128
    UNCHANGED = 137


cdef inline uint64_t _elapsed(int64_t now, int64_t since) noexcept nogil:
    """Return now - since, 0 if time went back."""
    return <uint64_t>now - <uint64_t>since if now > since else 0


cdef int _same_length(Py_ssize_t rows, Py_ssize_t codes, Py_ssize_t groups) except -1:
    """Check the optional arrays against the number of rows."""
    if codes != 0 and codes != rows:
        raise ValueError("codes and values differ in length")
    if groups != 0 and groups != rows:
        raise ValueError("groups and values differ in length")
    return 0


def carry(
    const double[::1] values not None,
    const uint8_t[::1] codes not None,
    const int32_t[::1] groups not None,
    double[::1] last not None,
    uint8_t[::1] known not None,
    double[::1] out not None,
    uint8_t[::1] out_known not None,
):
    """Carry each group's last value into the cells that are missing or blanked by a deadband.

    Parameters
    ----------
    values, codes, groups : see the module.  IN
    last, known : state: the last value and whether there is one.  IN and OUT
    out : float64 (n,), the value that holds at the row.  OUT
    out_known : uint8 (n,), 0 where none does.  OUT

    Raises
    ------
    ValueError
        If lengths differ or a group has no state.

    Notes
    -----
    A null of another reason (null, nan, device error ...) ends the last value. Rows without state have
    their own value only.
    """
    cdef Py_ssize_t rows = values.shape[0], states = known.shape[0], i
    cdef bint keyed = groups.shape[0] > 0, coded = codes.shape[0] > 0, bad = False
    cdef int64_t group = 0
    cdef uint8_t code = GOOD
    _same_length(rows, codes.shape[0], groups.shape[0])
    if out.shape[0] != rows or out_known.shape[0] != rows:
        raise ValueError("out and values differ in length")
    if last.shape[0] < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    with nogil:
        for i in range(rows):
            if coded:
                code = codes[i]
            if keyed:
                group = groups[i]
                if group >= states:
                    bad = True
                    break
            out[i] = 0.0
            out_known[i] = 0
            if code < NULL_FROM and values[i] == values[i]:
                out[i] = values[i]
                out_known[i] = 1
                if group >= 0:
                    last[group] = values[i]
                    known[group] = 1
            elif group >= 0:
                if code == MISSING or code == UNCHANGED:
                    if known[group]:
                        out[i] = last[group]
                        out_known[i] = 1
                else:
                    known[group] = 0
    if bad:
        raise ValueError("a group is outside the state arrays")


def latch(
    const int8_t[::1] when not None,
    const int8_t[::1] clear not None,
    const int64_t[::1] time not None,
    const int32_t[::1] groups not None,
    int64_t when_ns,
    int64_t clear_ns,
    uint8_t[::1] raised not None,
    uint8_t[::1] timing not None,
    int64_t[::1] since not None,
    int8_t[::1] out not None,
):
    """Raise where `when` has held for `when_ns`, clear where `clear` has held for `clear_ns`.

    Parameters
    ----------
    when, clear : int8 (n,), 1 true, 0 false, -1 unknown (changes nothing).  IN
    time, groups : see the module.  IN
    when_ns, clear_ns : how long the condition must hold, by data time, >= 0
    raised, timing, since : state; `timing` says that a condition holds since `since`.  IN and OUT
    out : int8 (n,), 1 raised at this row, -1 cleared, 0 neither.  OUT

    Returns
    -------
    Number of events.

    Raises
    ------
    ValueError
        If lengths differ or a group has no state.
    """
    cdef Py_ssize_t rows = when.shape[0], states = raised.shape[0], i, events = 0
    cdef bint keyed = groups.shape[0] > 0
    cdef int64_t group = 0, hold
    cdef int8_t condition
    if clear.shape[0] != rows or time.shape[0] != rows or out.shape[0] != rows:
        raise ValueError("when, clear, time and out differ in length")
    _same_length(rows, 0, groups.shape[0])
    if timing.shape[0] < states or since.shape[0] < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    if when_ns < 0 or clear_ns < 0:
        raise ValueError("a holding time is negative")
    with nogil:
        for i in range(rows):
            out[i] = 0
            if keyed:
                group = groups[i]
            if group < 0:
                continue
            if group >= states:
                events = -1
                break
            condition = clear[i] if raised[group] else when[i]
            hold = clear_ns if raised[group] else when_ns
            if condition == 0:
                timing[group] = 0
            if condition != 1:
                continue
            if not timing[group] or time[i] < since[group]:
                timing[group] = 1
                since[group] = time[i]
            if _elapsed(time[i], since[group]) >= <uint64_t>hold:
                out[i] = -1 if raised[group] else 1
                raised[group] ^= 1
                timing[group] = 0
                events += 1
    if events < 0:
        raise ValueError("a group is outside the state arrays")
    return events
