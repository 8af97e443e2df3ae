# ISO 8601 text to ns since 1970 UTC, without floats.
from libc.stdint cimport int64_t, uint8_t

cdef enum:
    TIME_OK = 0
    TIME_BAD = 1
    TIME_LOCAL = 2  # no zone in the text: the result is as if it were UTC
    FIRST_YEAR = 1678  # whole years that int64 ns can hold
    LAST_YEAR = 2261


cdef inline int64_t days_from_civil(int64_t year, int month, int day) noexcept nogil:
    """Days since 1970-01-01, proleptic Gregorian. Years begin in March, so a leap day is last."""
    cdef int64_t y = year - (month <= 2)
    cdef int64_t era = y // 400
    cdef int64_t of_era = y - era * 400
    cdef int64_t of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


cdef inline int digits_at(const uint8_t *p, const uint8_t *end, int count) noexcept nogil:
    """Value of `count` digits at p, -1 if they are not all digits."""
    cdef int i, digit, value = 0
    if end - p < count:
        return -1
    for i in range(count):
        digit = p[i] - c'0'
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


cdef inline int days_in_month(int year, int month) noexcept nogil:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef inline int parse_offset(const uint8_t *p, const uint8_t *end, int64_t *seconds) noexcept nogil:
    """Read Z, +hh, +hhmm or +hh:mm, all of the rest."""
    cdef int hours, minutes = 0
    if p[0] | 32 == c'z':
        seconds[0] = 0
        return TIME_OK if p + 1 == end else TIME_BAD
    if p[0] != c'+' and p[0] != c'-':
        return TIME_BAD
    hours = digits_at(p + 1, end, 2)
    if end - p == 6 and p[3] == c':':
        minutes = digits_at(p + 4, end, 2)
    elif end - p == 5:
        minutes = digits_at(p + 3, end, 2)
    elif end - p != 3:
        return TIME_BAD
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return TIME_BAD
    seconds[0] = (hours * 3600 + minutes * 60) * (-1 if p[0] == c'-' else 1)
    return TIME_OK


cdef inline int parse_iso(const uint8_t *p, const uint8_t *end, int64_t *out) noexcept nogil:
    """Read YYYY-MM-DD[(T| )hh:mm[:ss[.fraction]][zone]]; / between date parts and a decimal comma pass too.

    The fraction is cut after nine digits. A leap second counts as the next second.
    """
    cdef int year = digits_at(p, end, 4), month, day, hour = 0, minute = 0, second = 0, place
    cdef int64_t nanos = 0, offset = 0, seconds
    cdef int status = TIME_LOCAL
    if end - p < 10 or (p[4] != c'-' and p[4] != c'/') or p[7] != p[4]:
        return TIME_BAD
    month = digits_at(p + 5, end, 2)
    day = digits_at(p + 8, end, 2)
    if year < FIRST_YEAR or year > LAST_YEAR or month < 1 or month > 12 or day < 1:
        return TIME_BAD
    if day > days_in_month(year, month):
        return TIME_BAD
    p += 10
    if p < end:
        if p[0] | 32 != c't' and p[0] != c' ':
            return TIME_BAD
        if end - p < 6 or p[3] != c':':
            return TIME_BAD
        hour = digits_at(p + 1, end, 2)
        minute = digits_at(p + 4, end, 2)
        p += 6
        if p < end and p[0] == c':':
            second = digits_at(p + 1, end, 2)
            p += 3
            if p < end and (p[0] == c'.' or p[0] == c','):
                p += 1
                place = 0
                while p < end and c'0' <= p[0] <= c'9':
                    if place < 9:
                        nanos = nanos * 10 + (p[0] - c'0')
                    place += 1
                    p += 1
                if place == 0:
                    return TIME_BAD
                while place < 9:
                    nanos *= 10
                    place += 1
        if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
            return TIME_BAD
        if p < end:
            status = parse_offset(p, end, &offset)
            if status == TIME_BAD:
                return TIME_BAD
    seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    out[0] = seconds * 1_000_000_000 + nanos
    return status
