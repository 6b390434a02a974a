"""Characters of symbol fonts, which documents store as codes of the fonts instead of Unicode."""

from __future__ import annotations

_WINGDINGS = {
    0x4A: "☺", 0x6C: "●", 0x6E: "■", 0x6F: "☐", 0x71: "❑", 0x72: "❒", 0x76: "❖", 0x9F: "•", 0xA1: "○", 0xA7: "▪", 0xA8: "☐",
    0xB7: "•", 0xD8: "➢", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xF0: "⇨", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}  # fmt: skip
_SYMBOL = {
    0x22: "∀", 0x24: "∃", 0x27: "∍", 0x2A: "∗", 0x2D: "−", 0x40: "≅", 0x5C: "∴", 0x5E: "⊥", 0xA0: "€", 0xA2: "′", 0xA3: "≤",
    0xA4: "⁄", 0xA5: "∞", 0xA6: "ƒ", 0xAB: "↔", 0xAC: "←", 0xAD: "↑", 0xAE: "→", 0xAF: "↓", 0xB0: "°", 0xB1: "±", 0xB2: "″",
    0xB3: "≥", 0xB4: "×", 0xB5: "∝", 0xB6: "∂", 0xB7: "•", 0xB8: "÷", 0xB9: "≠", 0xBA: "≡", 0xBB: "≈", 0xBC: "…", 0xC4: "⊗",
    0xC5: "⊕", 0xC6: "∅", 0xC7: "∩", 0xC8: "∪", 0xC9: "⊃", 0xCA: "⊇", 0xCC: "⊂", 0xCD: "⊆", 0xCE: "∈", 0xCF: "∉", 0xD0: "∠",
    0xD1: "∇", 0xD2: "®", 0xD3: "©", 0xD4: "™", 0xD5: "∏", 0xD6: "√", 0xD7: "⋅", 0xD8: "¬", 0xD9: "∧", 0xDA: "∨", 0xDB: "⇔",
    0xDC: "⇐", 0xDE: "⇒", 0xE5: "∑", 0xF2: "∫",
    **dict(zip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)),
    **dict(zip(b"abcdefghijklmnopqrstuvwxyz", "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)),
}  # fmt: skip
_PRIVATE_USE = range(0xF000, 0xF100)
_DEFAULT = {0xF000 + code: sign for code, sign in _WINGDINGS.items()}


def symbol(code: str, font: str) -> str:
    """Character of a hexadecimal code in a symbol font; U+FFFD if it is unknown."""
    try:
        number = int(code, 16)
    except ValueError:
        return "\ufffd"
    if number not in _PRIVATE_USE and number > 0xFF:
        return chr(number) if number < 0x11_0000 and not 0xD800 <= number < 0xE000 else "\ufffd"
    number &= 0xFF
    table = _SYMBOL if "symbol" in font.lower() and "segoe" not in font.lower() else _WINGDINGS
    return table.get(number) or (chr(number) if table is _SYMBOL and 0x20 <= number < 0x7F else "\ufffd")


def without_private_use(text: str) -> str:
    """Bullets and check marks for the private codes that symbol fonts leave in ordinary text."""
    return text.translate(_DEFAULT) if any("\uf000" <= sign <= "\uf0ff" for sign in text) else text
