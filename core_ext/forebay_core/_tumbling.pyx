"""Statistics of time windows that follow each other, of many keys and fields, in one pass, rows not kept.

All that is kept of an open window is ACCUMULATED numbers a key and field, so that memory, the saved state and
the cost of a row do not grow with the window. Method: sums of powers of the deviation from the mean, updated
sample by sample (Pebay 2008), which stays precise where sums of powers lose all digits.
"""

from libc.math cimport fabs, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

# Columns of the state. COUNT 0 means that the others are to be read as nothing.
cdef enum:
    COUNT = 0
    SUM = 1
    CENTRE = 2
    M2 = 3
    M3 = 4
    M4 = 5
    LOW = 6
    HIGH = 7
    FIRST = 8
    LAST = 9
    WIDTH = 10
    N_MOMENTS = 14  # see _windows.MOMENTS
    BAD_FROM = 64
    JOINS = 0
    OPENS = 1
    CLOSES = 2
    LATE = 3
    NO_STATE = 4

ACCUMULATED = WIDTH

cdef double NAN = float("nan")


cdef inline int64_t _floor_div(int64_t a, int64_t b) noexcept nogil:
    """Floor of a / b for b > 0."""
    cdef int64_t quotient = a / b
    return quotient - 1 if a % b < 0 else quotient


def tumble(
    const int64_t[::1] time not None,
    const int32_t[::1] groups not None,
    int64_t pane_ns,
    int64_t max_back,
    int64_t max_rows,
    int64_t[::1] open_pane not None,
    int64_t[::1] open_rows not None,
    uint8_t[::1] kind not None,
    int64_t[::1] closed_pane not None,
    int32_t[::1] closed_group not None,
):
    """Sort rows into windows that follow each other, and list the windows that they close.

    Parameters
    ----------
    time, groups, pane_ns, max_back, max_rows, open_pane, open_rows : as in `windows.panes`
    kind : uint8 (n,): 0 joins the open window, 1 opens the group's first, 2 closes one and opens another,
        3 is late, 4 has a negative group.  OUT
    closed_pane : int64 (n,), number of the window that each row of kind 2 closed, in order.  OUT
    closed_group : int32 (n,), its group.  OUT

    Returns
    -------
    Number of windows closed: so many of `closed_pane` and `closed_group` are written.

    Raises
    ------
    ValueError
        If lengths differ, a group has no state, or a parameter is not positive.
    """
    cdef Py_ssize_t rows = time.shape[0], states = open_rows.shape[0], i, closed = 0
    cdef bint keyed = groups.shape[0] > 0, bad = False
    cdef int64_t group = 0, number
    if (
        kind.shape[0] != rows or closed_pane.shape[0] != rows or closed_group.shape[0] != rows
        or (keyed and groups.shape[0] != rows)
    ):
        raise ValueError("time, groups, kind, closed_pane and closed_group differ in length")
    if open_pane.shape[0] < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    if pane_ns <= 0 or max_rows <= 0 or max_back < 0:
        raise ValueError("pane_ns and max_rows must be positive, max_back not negative")
    with nogil:
        for i in range(rows):
            if keyed:
                group = groups[i]
            if group < 0:
                kind[i] = NO_STATE
                continue
            if group >= states:
                bad = True
                break
            number = _floor_div(time[i], pane_ns)
            kind[i] = JOINS
            if open_rows[group] == 0:
                kind[i] = OPENS
            elif number < open_pane[group]:
                if <uint64_t>open_pane[group] - <uint64_t>number <= <uint64_t>max_back:
                    kind[i] = LATE
                    continue
                kind[i] = CLOSES
            elif number > open_pane[group] or open_rows[group] >= max_rows:
                kind[i] = CLOSES
            if kind[i] == CLOSES:
                closed_pane[closed] = open_pane[group]
                closed_group[closed] = <int32_t>group
                closed += 1
            if kind[i] != JOINS:
                open_rows[group] = 0
                open_pane[group] = number
            open_rows[group] += 1
    if bad:
        raise ValueError("a group is outside the state arrays")
    return closed


cdef void _take(double* state, double x) noexcept nogil:
    """Take a sample into the state of one window."""
    cdef double n = state[COUNT] + 1.0, away, part, square, term
    state[LAST] = x
    if n == 1.0:
        state[COUNT] = 1.0
        state[SUM] = state[CENTRE] = state[LOW] = state[HIGH] = state[FIRST] = x
        state[M2] = state[M3] = state[M4] = 0.0
        return
    away = x - state[CENTRE]
    part = away / n
    square = part * part
    term = away * part * (n - 1.0)
    state[COUNT] = n
    state[SUM] += x
    state[CENTRE] += part
    state[M4] += term * square * (n * n - 3.0 * n + 3.0) + 6.0 * square * state[M2] - 4.0 * part * state[M3]
    state[M3] += term * part * (n - 2.0) - 3.0 * part * state[M2]
    state[M2] += term
    if x < state[LOW]:
        state[LOW] = x
    if x > state[HIGH]:
        state[HIGH] = x


cdef void _finish(double* state, double* out) noexcept nogil:
    """Write the statistics of a window and empty its state."""
    cdef double n = state[COUNT], mean, rms, peak, second, third, fourth
    cdef int k
    if n == 0.0:
        out[0] = out[1] = 0.0
        for k in range(2, N_MOMENTS):
            out[k] = NAN
        return
    # Of equal samples the mean is that sample, whatever a sum of many is rounded to.
    mean = state[LOW] if state[LOW] == state[HIGH] else state[SUM] / n
    second, third, fourth = state[M2] / n, state[M3] / n, state[M4] / n
    rms = sqrt(second + mean * mean)
    peak = fabs(state[LOW]) if fabs(state[LOW]) > fabs(state[HIGH]) else fabs(state[HIGH])
    out[0], out[1], out[2], out[3] = n, state[SUM], mean, sqrt(second)
    out[4], out[5], out[6] = state[LOW], state[HIGH], state[HIGH] - state[LOW]
    out[7], out[8], out[9] = rms, peak, peak / rms
    out[10], out[11] = third / (second * sqrt(second)), fourth / (second * second)
    out[12], out[13] = state[FIRST], state[LAST]
    state[COUNT] = 0.0


def accumulate(
    const double[:, ::1] values not None,
    const uint8_t[:, ::1] codes not None,
    const int32_t[::1] groups not None,
    const uint8_t[::1] kind not None,
    double[:, :, ::1] state not None,
    double[:, :, ::1] out not None,
):
    """Take rows into the open windows of their groups; write the statistics of those that are closed.

    Parameters
    ----------
    values : float64 (fields, n), without NaN where usable.  IN
    codes : uint8 (fields, n); cells of 64 and above are left out.  IN
    groups, kind : of `tumble`.  IN
    state : float64 (fields, groups, ACCUMULATED), zeros at first.  IN and OUT
    out : float64 (fields, n_closed, 14), the columns of `windows.MOMENTS`; a window for each row of kind 2,
        in order.  OUT

    Raises
    ------
    ValueError
        If shapes do not agree, a group has no state, or `out` has not a place for each window closed; then
        the state is as before.

    Notes
    -----
    The statistics mean what they do in `windows.moments`; rounding differs. O(fields n).

    References
    ----------
    P. Pebay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
    statistical moments", Sandia SAND2008-6212 (2008).
    """
    cdef Py_ssize_t fields = values.shape[0], rows = values.shape[1], states = state.shape[1]
    cdef Py_ssize_t f, i, closed = 0
    cdef bint keyed = groups.shape[0] > 0
    cdef int64_t group = 0
    if (
        codes.shape[0] != fields or codes.shape[1] != rows or kind.shape[0] != rows
        or state.shape[0] != fields or out.shape[0] != fields or (keyed and groups.shape[0] != rows)
        or state.shape[2] != WIDTH or out.shape[2] != N_MOMENTS
    ):
        raise ValueError("values, codes, groups, kind, state and out differ in shape")
    for i in range(rows):
        closed += kind[i] == CLOSES
        if kind[i] < LATE and (groups[i] if keyed else 0) >= states:
            raise ValueError("a group is outside the state arrays")
    if out.shape[1] != closed:
        raise ValueError("out must have one row for each window that is closed")
    with nogil:
        for f in range(fields):
            closed = 0
            for i in range(rows):
                if kind[i] >= LATE:
                    continue
                if keyed:
                    group = groups[i]
                if kind[i] == CLOSES:
                    _finish(&state[f, group, 0], &out[f, closed, 0])
                    closed += 1
                if codes[f, i] < BAD_FROM:
                    _take(&state[f, group, 0], values[f, i])


def finish(
    double[:, :, ::1] state not None,
    const int64_t[::1] groups not None,
    double[:, :, ::1] out not None,
):
    """Write the statistics of the open windows of some groups and empty their states.

    Parameters
    ----------
    state : float64 (fields, groups, ACCUMULATED).  IN and OUT
    groups : int64 (k,).  IN
    out : float64 (fields, k, 14).  OUT

    Raises
    ------
    ValueError
        If shapes do not agree or a group has no state.
    """
    cdef Py_ssize_t fields = state.shape[0], asked = groups.shape[0], f, i
    if (
        out.shape[0] != fields or out.shape[1] != asked or out.shape[2] != N_MOMENTS
        or state.shape[2] != WIDTH
    ):
        raise ValueError("state, groups and out differ in shape")
    for i in range(asked):
        if groups[i] < 0 or groups[i] >= state.shape[1]:
            raise ValueError("a group is outside the state arrays")
    with nogil:
        for f in range(fields):
            for i in range(asked):
                _finish(&state[f, groups[i], 0], &out[f, i, 0])
