"""Facts that the text kernel and its twin share: class codes, folding of characters, words, weights.

Data only, no logic of the scan, so that the two implementations stay independent of each other.

References
----------
GB 11643-1999 (resident number), GB 32100-2015 and GB 11714-1997 (social credit code), GB 16735-2019 (VIN),
GA 36-2018 (plates), ISO/IEC 7812-1 (Luhn, IIN), YD/T 1085 (numbering).
"""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "",  # code 0 is no class
    "resident_id",
    "mobile",
    "landline",
    "bank_card",
    "uscc",
    "passport",
    "plate",
    "vin",
    "imei",
    "email",
    "ipv4",
    "ipv6",
    "mac",
    "gps",
    "name",
    "address",
)
"""Name of each class by its code."""

CODES: dict[str, int] = {name: code for code, name in enumerate(CLASSES) if name}
"""Code of each class by its name."""

ALL_CLASSES = (1 << len(CLASSES)) - 2
"""Bit mask with the bit `1 << code` of every class."""

PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼" + "滬雲遼魯蘇贛陝閩貴粵寧瓊"
"""With the traditional forms, which Hong Kong and Macau write."""
PLATE_ENDS = "警学挂港澳试超领使"

# Folded symbols above ASCII: one byte a character, so that every rule looks at single bytes. SPOKEN and the nine
# behind it are digits written as words; with those before it a rule may begin.
OTHER, PROVINCE, PLATE_END, SPOKEN, MIDDLE_DOT, DEGREE, SKIP = 0x80, 0x81, 0x82, 0x83, 0x90, 0x91, 0xFF

SPOKEN_DIGITS = ("〇零", "一壹幺", "二贰貳", "三叁參", "四肆", "五伍", "六陆陸", "七柒", "八捌", "九玖")
"""How a number is read out digit by digit, by its value, as transcripts of telephone calls have it."""

ZEROS = (
    *(0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6),
    *(0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90),
    *(0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0),
)
"""Zeros of other scripts' digits in the basic plane, the other nine behind each: whatever reads numbers reads those."""

WIDE_DIGITS = range(0x1D7CE, 0x1D800)
"""Digits for mathematics, beyond the basic plane: five times ten."""

TAGS = range(0xE0000, 0xE1000)
"""What has no width, beyond the basic plane."""


def _symbols() -> bytes:
    # Full-width forms fold to ASCII, the many spaces and dashes to one each; what has no width (also the
    # direction marks that address books paste around numbers) vanishes, so that it cannot split a number. U+FFFD is
    # a space: sources put it where bytes are no UTF-8, and for the NULs of a file in UTF-16.
    table = bytearray([OTHER]) * 65536
    table[0:128] = bytes(range(128))
    for code in range(0xFF01, 0xFF5F):
        table[code] = code - 0xFEE0
    for code in (0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000, 0xFFFD):
        table[code] = 0x20
    for code in (*range(0x2010, 0x2016), 0x2043, 0x2212, 0xFE58, 0xFE63):
        table[code] = 0x2D
    for code in (0xB7, 0x2022, 0x2027, 0x2219, 0x22C5, 0x30FB, 0xFF65):
        table[code] = MIDDLE_DOT
    for code in (
        *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xFE00, 0xFE10),
    ):
        table[code] = SKIP  # Default_Ignorable_Code_Point
    for zero in ZEROS:
        table[zero : zero + 10] = b"0123456789"
    for value, chars in enumerate(SPOKEN_DIGITS):
        for char in chars:
            table[ord(char)] = SPOKEN + value
    for code in (0xB0, 0xBA, 0x5EA6):  # the sign, what is taken for it, 度
        table[code] = DEGREE
    for char in PROVINCES:
        table[ord(char)] = PROVINCE
    for char in PLATE_ENDS:
        table[ord(char)] = PLATE_END
    return bytes(table)


SYMBOLS: bytes = _symbols()
"""Folded symbol of each code point below 65536."""

LABELS: tuple[str, ...] = (
    *("tel", "telno", "phone", "phoneno", "mobile", "mob", "cell", "call", "sms", "wechat", "weixin"),
    *("wx", "vx", "dh", "sj", "sjh", "shouji", "dianhua", "lianxi", "contact", "card", "cardno", "acct"),
    *("account", "kh", "id", "idno", "idcard", "sfz", "imei", "no", "to", "from", "ip"),
)
"""Words that may stand directly before a number (`tel13812345678`). Any other letter there means that the
digits are part of a longer name: a serial number, a hex string."""

# Context words: looked for, ASCII letters in lower case, in the bytes before a candidate.
CONTEXT_IMEI, CONTEXT_PERMIT, CONTEXT_CARD, CONTEXT_PHONE, CONTEXT_GPS, CONTEXT_VERSION = 0, 1, 2, 3, 4, 5
CONTEXT_NAME, CONTEXT_ADDRESS, CONTEXT_PLATE, CONTEXT_VIN, CONTEXT_OTHER = 6, 7, 8, 9, 10
CONTEXT_COUNTER, CONTEXT_MACHINE = 11, 12
CONTEXT_RESIDENT, CONTEXT_BANK, CONTEXT_USCC, CONTEXT_MAC = 13, 14, 15, 16
CONTEXT_PERSON, CONTEXT_THING = 17, 18
CONTEXT_BYTES = 40
VERSION_BYTES = (
    12  # `version` speaks of the number right behind it only; so does `order` of what may be an IMEI
)
GPS_BYTES = 24  # the same for `position`
MACHINE_BYTES = 13  # `工件` before what may well be a position
COUNTER_BYTES = 6  # the same for `seq=`: two ideographs or signs between
LABEL_BYTES = 20  # how near a label must stand to a number that has no form of its own
CONTEXTS: tuple[tuple[bytes, ...], ...] = tuple(
    tuple(word.encode() for word in words)
    for words in (
        ("imei", "串号", "meid", "设备识别码"),
        (
            *(
                "护照",
                "通行证",
                "回乡证",
                "台胞证",
                "证件",
                "passport",
                "permit",
                "签证",
                "军官证",
                "士兵证",
                "居留证",
            ),
            *("永久居留", "军人证", "文职"),
        ),
        ("卡", "账号", "帐号", "账户", "card", "acct", "account"),
        (
            *(
                "电话",
                "座机",
                "固话",
                "传真",
                "热线",
                "tel",
                "phone",
                "fax",
                "致电",
                "手机",
                "联系",
                "mobile",
                "拨打",
            ),
            *("来电", "回电", "sms", "短信"),
        ),
        (
            "gps",
            "经度",
            "纬度",
            "经纬度",
            "坐标",
            "东经",
            "北纬",
            "定位",
            "位置",
            "lat",
            "lng",
            "lon",
            "position",
            "location",
        ),
        ("版本", "固件", "version", "ver", "firmware", "release"),
        (),  # names and addresses have words of their own; the column alone vouches for them
        (),
        ("车牌", "号牌", "牌照", "车号", "plate", "车辆", "军车", "军牌"),
        ("vin", "车架", "车辆识别", "大架号", "底盘号"),
        (
            *(
                "订单",
                "单号",
                "流水",
                "序列",
                "编号",
                "批号",
                "货号",
                "条码",
                "运单",
                "sn",
                "serial",
                "order",
                "batch",
            ),
            *("trace", "seq"),
        ),
        # right behind these 11 digits count something: no telephone
        (
            *("seq", "offset", "serial", "trace", "txn", "batch", "barcode", "sku", "样本", "样品", "标本"),
            *("序列", "流水", "批号", "条码", "货号", "物料", "料号", "图号", "试剂", "箱号"),
        ),
        # coordinates of a machine or a picture
        ("工件", "机床", "机械", "像素", "图像", "刀补", "轴"),
        # what a mistyped number is taken for behind its word, though its check digit is wrong
        ("身份证", "证件号", "公民身份", "居民证", "idcard", "id card", "id no", "id_no", "sfz"),
        (
            "银行卡",
            "信用卡",
            "储蓄卡",
            "借记卡",
            "卡号",
            "bank card",
            "bankcard",
            "card no",
            "cardno",
            "card_no",
        ),
        ("信用代码", "信用码", "营业执照", "税号", "uscc", "credit code"),
        # twelve hex digits without signs between
        (
            *("mac:", "mac=", "mac ", 'mac"', "mac：", "mac地址", "mac_addr", "macaddr", "物理地址"),
            *("硬件地址", "网卡", "蓝牙", "bssid"),
        ),
        (),  # a field of the name `owner`: what it holds as a whole may be somebody's name
        # what has numbers of its own, which are no old resident numbers
        ("设备", "资产", "机号", "表号", "传感器", "device", "asset", "meter", "sensor"),
    )
)

TOP_DOMAINS: tuple[str, ...] = (
    *("中国", "中國", "公司", "网络", "網絡", "香港", "澳门", "澳門", "台湾", "台灣", "集团", "网址", "在线"),
    *("商城", "网店", "企业", "政务", "公益", "中文网", "手机", "商标"),
)
"""Last labels of domains in Chinese characters (IANA root zone), behind which a sentence may go on."""

PROVINCE_NUMBERS: frozenset[int] = frozenset(
    (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66))
) | frozenset((71, 81, 82, 83, 91))
"""First two digits of a resident number (GB/T 2260, with the permits of 2018)."""

RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_CHECK = b"10X98765432"

MOBILE_STARTS: frozenset[int] = frozenset(
    (*range(130, 140), *range(145, 150), *range(150, 154), *range(155, 160), 162, *range(165, 168))
) | frozenset((*range(170, 176), *range(176, 179), *range(180, 194), *range(195, 200)))
"""First three digits that the ministry has assigned to operators for telephones, resellers and satellites
included. Others of 13 to 19 are taken with a word beside them or in groups: assignments go on."""

IMEI_STARTS: frozenset[int] = frozenset((35, 86))
"""First two digits of an IMEI that is believed without its word: the bodies of Europe and China assign nearly all."""

USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
USCC_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_DEPARTMENTS = (
    *("1:1239", "2:19", "3:123459", "4:19", "5:12349", "6:129", "7:129", "8:19", "9:123"),
    *("A:19", "N:1239", "Y:1"),
)
USCC_STARTS: frozenset[str] = frozenset(d[0] + kind for d in _DEPARTMENTS for kind in d[2:])
ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)

VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
VIN_VALUES: dict[str, int] = {
    **{str(d): d for d in range(10)},
    **dict(zip("ABCDEFGH", range(1, 9), strict=True)),
    **dict(zip("JKLMN", range(1, 6), strict=True)),
    "P": 7,
    "R": 9,
    **dict(zip("STUVWXYZ", range(2, 10), strict=True)),
}
