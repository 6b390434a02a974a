"""Detection of legacy encodings: every candidate is decoded and scored by the letters of the languages that use it.

Texts of a few words often fit several encodings. ``Detection`` then names the others.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from rlm.core.values import frozen

_SURE_MARGIN = 0.12
_SURE_SCORE = 0.55
_SURE_LETTERS = 3  # beyond ASCII
_SHORT_LETTERS, _SHORT_MARGIN = 8, 1.0  # of scripts other than Latin
_SHARE_BY_LETTERS = ((2_000, 0.15), (300, 0.4), (60, 0.7), (0, 1.0))  # of the margin: long texts vary less
_SIGNS = frozenset("“”„‘’‚«»‹›–—…•·€£§°©®™ºª²³½¼¾µ±×÷¿¡\xa0№¶†‡‰")
_RARE_SIGNS = frozenset("ªº²³½¼¾µ¿¡¹")
_INNER = frozenset("’·-\u00ad\u200c\u200d")  # signs that stand between the letters of a word
_OPENING = frozenset("“„‘’«‹»›—–-…§£€©#¿¡·•\xa0")  # signs that stand before a word
_QUOTES, _CLOSING = frozenset("„‚«‹"), re.compile("[“”’‘»›]")
_SINGLE = frozenset("àèéáóíöåôýæøÀÈÉÓÁÖÅÆØ")  # words of one letter
_LINE = re.compile(rb"[^\r\n]*[\x80-\xff][^\r\n]*")
_SAMPLE_BYTES = 3_000
_ASCII_LETTER = re.compile(r"[A-Za-z]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_LONG_RUN = re.compile(r"[^\W\d_\x00-\x7f]{3,}")
_WORD = re.compile(r"[^\W\d_]+")
_HAN_IN_WORD = re.compile(
    r"[a-z][\u3400-\u9fff\uac00-\ud7a3\uff61-\uff9f]|[\u3400-\u9fff\uac00-\ud7a3\uff61-\uff9f][a-z]"
)
_MIXED_CASE = re.compile(r"[a-zà-ÿß-ſа-џα-ώ][^\W\d_a-zà-ÿß-ſа-џα-ώ\x00-\x7f]")

# Letters beyond ASCII and frequent words of languages, by the encodings that are used for them. The more frequent letters come
# first, up to a space.
_LATIN = {
    "cp1252": (
        ("äöüß é", "der die und das ist nicht mit für auf von den im ein eine zu"),
        ("éèàêç ùôîâûëïœæÿü", "le la les des est et une un dans que pour qui pas du au sur avec"),
        ("óáéíñ úü", "el la los que de en por con para una del las es se no su"),
        ("ãçáéíóõâ êàúôü", "de que o a do da em para com não uma os no na por mais"),
        ("àèéìòù", "il che di la per non una del con sono della nel le un"),
        ("åäö éü", "och att det som en på är av för med till den har inte i"),
        ("æøå éóôòâ", "og det i på som er en til av for med at den ikke har"),
        ("äö å", "ja on ei että se oli hän mutta kun niin ovat myös"),
        ("ðþæöáíéú óý", "og að í á er sem við um var til en ekki"),
        ("éëïó èöüêá", "de het een en van is dat niet op te voor met zijn"),
        ("éáűő", "—"),
    ),
    "cp1250": (
        ("ąęłóśżć ńź", "nie się jest na do że to jak po za od ale przez dla oraz w z i"),
        ("áíéěšč ýžřůúťďňó", "je se na že to jako po ale by pro při jsem není které v s i"),
        ("áíéščž ýúľťňôäďóŕĺ", "je sa na že to ako po ale by pre pri som nie ktoré v s i"),
        ("áéöóíő üúű", "a az és hogy nem egy is van ez de meg volt csak"),
        ("ăâîşţ șț", "și si de la în cu nu un o este pe din care pentru"),
        ("čšž ćđ", "je in na se za da so ne pa ki kot tudi po bi u i od su"),
    ),
    "cp1254": (("ıüşğçö İâîûŞÇĞÖÜ", "bir ve bu için ile de da ne gibi daha çok olarak en ama var"),),
    "cp1257": (
        ("ėšųąįūžč ę", "ir yra kad su iš tai bei į kaip o ne buvo už"),
        ("āīēūšņļ žķģčō", "un ir ka no ar par uz kas tas bet ne arī viņš"),
        ("äõüö šž", "ja on ei et see oli ka kui mis oma aga ning"),
    ),
}
_LATIN["iso8859_2"] = _LATIN["cp1250"]
_LATIN["iso8859_9"] = _LATIN["cp1254"]
_LATIN["iso8859_13"] = _LATIN["cp1257"]
_LATIN["iso8859_4"] = _LATIN["cp1257"]
_LATIN["iso8859_15"] = _LATIN["cp1252"]
_LATIN["mac_roman"] = _LATIN["cp1252"]
_LATIN["cp850"] = _LATIN["cp1252"]
_LATIN["cp852"] = _LATIN["cp1250"]
_RUSSIAN = "оеаинтсрвлкмдпу ыьябгзчйхжшюцщэфъё"
_UKRAINIAN = "оаинвертіслкмдпу ябзьгйчхцїюжєщшфґ"
_BULGARIAN = "аоеитнрсвлкдпмяъ зубгчйщхжцюшф"
_SERBIAN = "аоеинрјустдвкмлп збгчшцжњћљђхџфѓќѕ"
_BELARUSIAN = "аніоеырстлкўдмяў пзбйчхьугвцёшжэюф"
_CYRILLIC = (_RUSSIAN, _UKRAINIAN, _BULGARIAN, _SERBIAN, _BELARUSIAN)
_SCRIPTS: dict[str, tuple[str, ...]] = {
    "cp1251": _CYRILLIC,
    "koi8_r": (_RUSSIAN,),
    "koi8_u": (_UKRAINIAN,),
    "iso8859_5": _CYRILLIC,
    "cp866": _CYRILLIC[:1],
    "mac_cyrillic": _CYRILLIC,
    "cp1253": ("αοιετνσηρςπκμλυ άόίέύήώωγδθχβφξζψϊΐϋΰ",),
    "iso8859_7": ("αοιετνσηρςπκμλυ άόίέύήώωγδθχβφξζψϊΐϋΰ",),
    "cp1255": ("יולהאמתרבנש עדקפחגכםזטןסץצךף",),
    "iso8859_8": ("יולהאמתרבנש עדקפחגכםזטןסץצךף",),
    "cp1256": ("اليمنورتبةعدس فهكقحجشطصخأذىضإثئءزغآظؤپچژگ",),
    "iso8859_6": ("اليمنورتبةعدس فهكقحجشطصخأذىضإثئءزغآظؤ",),
    "cp874": ("าน่รกเงอม้ัลวดทิส ีตคหยบปไจพโขใะแชุูผึ์ถือศณญธซภฟฐษฉๆํฏ",),
}
_COMMON = {
    "chinese": (
        "的一是不了在人有我他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于"
        "於着著下自之年过過发發后後作里裡用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看"
        "定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實日"
    ),
    "japanese": (
        "日本東京都市県区町村年月会社株式名前住所電話氏国大中小人山田川上下学校生時分事者長行出入見高新部内外"
        "合所場方女男子年齢性別番号"
    ),
    "korean": (
        "이다는에을의가고도하지를은한로서기사어나자아들리인시그대해수있것일과보으라정전주면만부장제게까니여니스원상"
    ),
}
_MULTIBYTE = {
    "cp932": "japanese", "euc_jp": "japanese", "gb18030": "chinese", "big5": "chinese", "cp949": "korean",
}  # fmt: skip
CANDIDATES = (*_LATIN, *_SCRIPTS, *_MULTIBYTE)
_RARER = {
    "mac_roman": 0.12, "cp850": 0.12, "cp852": 0.12, "mac_cyrillic": 0.04, "cp866": 0.06, "iso8859_4": 0.12, "iso8859_13": 0.12,
    "koi8_u": 0.06,
}  # fmt: skip
"""Encodings that are chosen only if they fit clearly better."""


@frozen
class Detection:
    """The most likely encoding, and others that fit the text nearly as well but decode it differently."""

    encoding: str
    alternatives: tuple[str, ...] = ()


def detect(data: bytes) -> Detection | None:
    """The encoding of bytes that are not UTF-8; None if no candidate fits all of them."""
    scored = [item for item in _scores(_sample(data)) if _fits(data, item[1])]
    if not scored:
        return None
    best, name, text = scored[0]
    letters = sum(ord(sign) > 127 and sign.isalpha() for sign in text)
    margin = _SURE_MARGIN if best >= _SURE_SCORE and letters >= _SURE_LETTERS else 3 * _SURE_MARGIN
    margin *= next(share for least, share in _SHARE_BY_LETTERS if letters >= least)
    if name not in _LATIN and letters < _SHORT_LETTERS:
        margin = _SHORT_MARGIN
    others = [other for score, other, _ in scored[1:] if score > best - margin]
    if best < _SURE_SCORE and not others:
        others = [other for _, other, _ in scored[1:3]]
    return Detection(name, tuple(others[:3]))


def _sample(data: bytes) -> bytes:
    """Lines with bytes beyond ASCII, which can come late in a file."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    lines, size = list[bytes](), 0
    for line in _LINE.finditer(data):
        lines.append(line[0][:_SAMPLE_BYTES])
        size += len(lines[-1])
        if size >= _SAMPLE_BYTES:
            break
    return b"\n".join(lines)


def _fits(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _scores(sample: bytes) -> list[tuple[float, str, str]]:
    """Score, encoding and text of each different decoding, the best first. Of equal texts, the usual name is given."""
    scores: dict[str, tuple[float, str]] = {}
    for name in CANDIDATES:
        text = _decode(sample, name)
        if text is None:
            continue
        if name in _MULTIBYTE:
            score = _score_multibyte(text, _MULTIBYTE[name])
        elif name in _LATIN:
            score = _score_latin(text, _LATIN[name])
        else:
            score = _score_script(text, _SCRIPTS[name])
        score -= _RARER.get(name, 0.0)
        best = scores.get(text)
        scores[text] = (score, name) if best is None else (max(score, best[0]), best[1])
    return sorted(((score, name, text) for text, (score, name) in scores.items()), key=lambda item: -item[0])


def _decode(sample: bytes, name: str) -> str | None:
    """Text of a sample, whose last character can be cut; None if it does not fit."""
    for end in (len(sample), len(sample) - 1, len(sample) - 2, len(sample) - 3):
        try:
            text = sample[:end].decode(name)
        except UnicodeDecodeError as error:
            if name not in _MULTIBYTE or error.start < len(sample) - 4:
                return None
            continue
        return None if any("\x80" <= sign <= "\x9f" for sign in text) else text
    return None


def _score_latin(text: str, languages: Sequence[tuple[str, str]]) -> float:
    """The score in the language that fits best."""
    high = Counter(_BEYOND_ASCII.findall(text))
    total = high.total()
    if not total:
        return 0.0
    words = _WORD.findall(text)
    bad = 2.0 * len(_MIXED_CASE.findall(text)) + 0.7 * sum(map(len, _LONG_RUN.findall(text))) + 1.5 * _odd_places(text)
    bad += 1.2 * sum(len(word) == 1 and not word.isascii() and word not in _SINGLE for word in words)
    spoken = {word.lower() for word in words}
    best = -10.0
    for letters, frequent in languages:
        common, rare = _letters(letters)
        good = sum(
            count * (1.0 if sign in common else 0.75 if sign in rare else _sign_weight(sign))
            for sign, count in high.items()
        )
        familiar = min(len(spoken & _frequent_words(frequent)), 6)
        best = max(best, (good - bad) / total + 0.04 * familiar - 0.15)
    return best


def _score_script(text: str, languages: Sequence[str]) -> float:
    """The score in the language that fits best."""
    high = Counter(_BEYOND_ASCII.findall(text))
    total = high.total()
    if not total:
        return 0.0
    words = _WORD.findall(text)
    mixed = sum(not word.isascii() and _ASCII_LETTER.search(word) is not None for word in words)
    own = [len(word) for word in words if not word.isascii()]
    single = own.count(1) + (4.0 * total if max(own, default=1) == 1 else 0.0)
    bad = 2.0 * len(_MIXED_CASE.findall(text)) + 2.0 * mixed + 1.5 * _odd_places(text) + 0.3 * single
    capitals = sum(count for sign, count in high.items() if sign.isupper()) / total
    is_sparse = total < 0.15 * len(_ASCII_LETTER.findall(text))  # a Latin text with accents
    good = max(
        sum(count * weights.get(sign, 0.4 if sign in _SIGNS else -1.5) for sign, count in high.items())
        for weights in map(_ranked, languages)
    )
    return (good - bad) / total + 0.15 - 0.15 * max(capitals - 0.4, 0.0) - 0.5 * is_sparse


@cache
def _frequent_words(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _score_multibyte(text: str, script: str) -> float:
    high = [sign for sign in text if ord(sign) > 127]
    if not high:
        return 0.0
    kana = sum("\u3041" <= sign <= "\u30fe" for sign in high)
    han = sum("\u4e00" <= sign <= "\u9fff" for sign in high)
    hangul = sum("\uac00" <= sign <= "\ud7a3" for sign in high)
    half = sum("\uff61" <= sign <= "\uff9f" for sign in high)
    signs = sum("\u3000" <= sign <= "\u303f" or "\uff01" <= sign <= "\uff5e" or sign in _SIGNS for sign in high)
    wanted = {"japanese": kana + han, "chinese": han, "korean": hangul}[script]
    odd = 2 * len(_HAN_IN_WORD.findall(text)) + len(high) - wanted - signs + (half if script == "japanese" else 0)
    if script == "japanese":
        typical = kana / max(wanted, 1) / 0.3 or 0.7 * sum(sign in _frequent(script) for sign in high) / len(high)
    else:
        frequent = _frequent(script)
        typical = sum(sign in frequent for sign in high) / max(wanted, 1) / 0.2
    return min(typical, 1.0) * 1.1 * wanted / len(high) - 2.0 * odd / len(high) + 0.1 - 0.6 * (wanted < 2)


def _sign_weight(sign: str) -> float:
    return (0.1 if sign in _RARE_SIGNS else 0.6) if sign in _SIGNS else -1.5


def _odd_places(text: str) -> float:
    """Signs inside or before words, and letters beside digits, which a wrong encoding makes of other characters."""
    odd = 0.0
    opening = _OPENING if _CLOSING.search(text) else _OPENING - _QUOTES
    for match in _BEYOND_ASCII.finditer(text):
        sign, before, after = match[0], text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        if sign.isalpha():
            odd += before.isdigit() or after.isdigit()
        elif not sign.isalnum() and after.isalpha():
            odd += (sign not in _INNER) if before.isalpha() else 0.5 * (sign not in opening)
    return odd


@cache
def _ranked(letters: str) -> dict[str, float]:
    """Weights of letters by their frequency, from 1.1 down to 0.2."""
    ordered = letters.replace(" ", "")
    weights = [1.1 - 0.9 * rank / len(ordered) for rank in range(len(ordered))]
    return {
        sign: weight
        for letter, weight in zip(ordered, weights, strict=True)
        for sign in (letter, letter.upper())
        if len(sign) == 1
    }


@cache
def _letters(letters: str) -> tuple[frozenset[str], frozenset[str]]:
    common, _, rare = letters.partition(" ")
    return _both_cases(common), _both_cases(rare)


def _both_cases(letters: str) -> frozenset[str]:
    return frozenset(unicodedata.normalize("NFC", letters + letters.upper()))


@cache
def _frequent(script: str) -> frozenset[str]:
    return frozenset(_COMMON[script])
