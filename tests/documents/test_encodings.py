"""Legacy encodings: every text is decoded right, or the note names the doubt. None is wrong in silence."""

from __future__ import annotations

import pytest

from rlm.documents.convert.charsets import detect
from rlm.documents.convert.encodings import decode
from rlm.documents.convert.result import Builder

# fmt: off
TEXTS = [
    ("cp1250", "Zażółć gęślą jaźń. Umowa została zawarta w dniu piątego maja między stronami, które oświadczają, ż"),
    ("iso8859_2", "Zażółć gęślą jaźń. Umowa została zawarta w dniu piątego maja między stronami, które oświadczają, ż"),
    ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy. Smlouva byla uzavřena mezi stranami a nabývá účinnosti dne"),
    ("iso8859_2", "Příliš žluťoučký kůň úpěl ďábelské ódy. Smlouva byla uzavřena mezi stranami a nabývá účinnosti dne"),
    ("cp1250", 'Kŕdeľ ďatľov učí koňa žrať kôru. Zmluva nadobúda účinnosť dňom podpisu oboma stranami.'),
    ("cp1250", 'Árvíztűrő tükörfúrógép. A szerződés az aláírás napján lép hatályba, és határozatlan időre szól.'),
    ("cp1250", "Contractul intră în vigoare la data semnării şi este încheiat pe o perioadă nedeterminată între pă"),
    ("cp1250", "Ugovor stupa na snagu danom potpisivanja i sklapa se na neodređeno vrijeme među strankama, što zna"),
    ("cp1252", "Der Vertrag läuft über drei Jahre; die Gebühren fürs Öffnen müssen größtenteils jährlich gezahlt w"),
    ("cp1252", "Le contrat entre en vigueur à la date de signature ; l’échéance est fixée à décembre, où les frais"),
    ("cp1252", "El contrato entrará en vigor mañana; los años siguientes también se pagará la cuota según el artíc"),
    ("cp1252", "O contrato não será renovado; as condições são válidas até à conclusão do período de três anos, co"),
    ("cp1252", "Il contratto è valido perché la società l'ha firmato lunedì; però più tardi la città pagherà ciò c"),
    ("cp1252", "Avtalet gäller från och med i år; avgiften måste betalas på förhand och återbetalas inte före året"),
    ("cp1252", "Aftalen gælder fra første år; afgiften skal betales på forhånd og må ikke tilbagebetales før årets"),
    ("cp1252", "Samningurinn tekur gildi við undirritun og gildir í þrjú ár, þó með þeim fyrirvara að greiðslur sé"),
    ("cp1254", "Sözleşme imza tarihinde yürürlüğe girer ve üç yıl süreyle geçerlidir; ücretler değişmez, ancak yıl"),
    ("cp1257", "Sutartis įsigalioja jos pasirašymo dieną ir galioja trejus metus; mokestis mokamas iš anksto už ki"),
    ("cp1257", "Līgums stājas spēkā tā parakstīšanas dienā un ir spēkā trīs gadus; maksa jāmaksā iepriekš par katr"),
    ("cp1257", "Leping jõustub allkirjastamise päeval ja kehtib kolm aastat; tasu makstakse ette iga kvartali eest"),
    ("cp1251", "Договор вступает в силу в день подписания и действует три года. Оплата производится заранее за каж"),
    ("koi8_r", "Договор вступает в силу в день подписания и действует три года. Оплата производится заранее за каж"),
    ("cp866", "Договор вступает в силу в день подписания и действует три года. Оплата производится заранее за каж"),
    ("iso8859_5", "Договор вступает в силу в день подписания и действует три года. Оплата производится заранее за каж"),
    ("mac_cyrillic", "Договор вступает в силу в день подписания и действует три года. Оплата производится заранее за каж"),
    ("cp1251", "Договір набирає чинності з дня підписання та діє протягом трьох років. Її сплачують щокварталу, як"),
    ("cp1251", "Договорът влиза в сила от деня на подписването и важи три години. Таксата се плаща предварително з"),
    ("cp1251", "Уговор ступа на снагу даном потписивања и важи три године. Накнада се плаћа унапред за сваки кварт"),
    ("cp1253", "Η σύμβαση τίθεται σε ισχύ την ημέρα υπογραφής και ισχύει για τρία έτη. Άλλες αμοιβές καταβάλλονται"),
    ("iso8859_7", "Η σύμβαση τίθεται σε ισχύ την ημέρα υπογραφής και ισχύει για τρία έτη. Άλλες αμοιβές καταβάλλονται"),
    ("cp1255", 'החוזה נכנס לתוקף ביום החתימה ותקף לשלוש שנים. התשלום מבוצע מראש עבור כל רבעון.'),
    ("cp1256", 'يدخل العقد حيز التنفيذ في يوم التوقيع ويسري لمدة ثلاث سنوات. تدفع الرسوم مقدما عن كل ربع سنة.'),
    ("iso8859_6", 'يدخل العقد حيز التنفيذ في يوم التوقيع ويسري لمدة ثلاث سنوات. تدفع الرسوم مقدما عن كل ربع سنة.'),
    ("cp1256", 'اين قرارداد در روز امضا اجرا مي شود و سه سال اعتبار دارد. پرداخت پيشاپيش انجام مي گيرد.'),
    ("cp874", 'สัญญามีผลใช้บังคับในวันที่ลงนามและมีอายุสามปี ค่าธรรมเนียมชำระล่วงหน้าทุกไตรมาส'),
    ("cp932", '契約は署名の日に発効し、三年間有効です。料金は四半期ごとに前払いされます。データをご確認ください。'),
    ("euc_jp", '契約は署名の日に発効し、三年間有効です。料金は四半期ごとに前払いされます。データをご確認ください。'),
    ("gb18030", '合同自签字之日起生效，有效期为三年。费用应当按季度预先支付，除非双方另有约定。'),
    ("big5", '合同自簽字之日起生效，有效期為三年。費用應當按季度預先支付，除非雙方另有約定。'),
    ("cp949", '계약은 서명한 날에 발효되며 삼 년 동안 유효하다. 요금은 분기마다 미리 지불해야 한다.'),
]
# fmt: on
LENGTHS = (6, 12, 25, 50, 200, 20_000)
SHORT = [
    ("cp1252", "Größe: fünf"), ("cp1252", "naïve café"), ("cp1252", "Price: 25 £ or 30 €"), ("cp1252", "Temp 25°C"),
    ("cp1252", "“Quoted” – it’s fine"), ("cp1252", "· item\n· other item"), ("cp1252", "½ cup"), ("cp1252", "L’été"),
    ("cp1250", "Imię,Nazwisko\nMałgorzata,Wójcik"), ("cp1250", "Jméno;Příjmení\nJiří;Dvořák"), ("cp1250", "ŻÓŁĆ"),
    ("cp1254", "Ad,Soyad\nAyşe,Yılmaz"), ("cp1251", "ДОГОВОР АРЕНДЫ"), ("koi8_r", "ДОГОВОР АРЕНДЫ"),
    ("koi8_r", "москва"),
    ("cp1253", "ΣΥΜΒΑΣΗ ΜΙΣΘΩΣΗΣ"), ("cp932", "名前,年齢\n佐藤太郎,30"), ("euc_jp", "日本"), ("gb18030", "北京"),
    ("big5", "台北市"),
    ("cp949", "서울"), ("mac_roman", "Müller"), ("cp850", "Übergröße"), ("iso8859_2", "Wójcik"),
]  # fmt: skip


def outcome(data: bytes, text: str) -> str:
    """ "right", "uncertain", or "wrong" in silence."""
    found = detect(data)
    if found is not None and data.decode(found.encoding) == text:
        return "right"
    return "uncertain" if found is None or found.alternatives else "wrong"


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, text in TEXTS], ids=[name for name, _ in TEXTS])
def test_no_length_is_wrong_in_silence(encoding: str, text: str) -> None:
    outcomes = {}
    for length in LENGTHS:
        cut = (text * (length // len(text) + 1))[:length]
        if not cut.isascii():
            outcomes[length] = outcome(cut.encode(encoding), cut)
    assert "wrong" not in outcomes.values(), outcomes
    assert encoding == "mac_cyrillic" or (outcomes[200], outcomes[20_000]) == ("right", "right")


@pytest.mark.parametrize(("encoding", "text"), SHORT)
def test_short_texts_are_right_or_uncertain(encoding: str, text: str) -> None:
    assert outcome(text.encode(encoding), text) != "wrong"


def test_doubt_is_noted() -> None:
    document = Builder("a.txt", "text")
    assert decode("Sutartis įsi".encode("cp1257"), document)
    assert document.notes == ["decoded as cp1252 (uncertain: cp1257, cp850 also fit; name it with encoding=)"]
    sure = Builder("b.txt", "text")
    assert decode(TEXTS[0][1].encode("cp1250"), sure) == TEXTS[0][1]
    assert sure.notes == ["decoded as cp1250"]


def test_letters_late_in_a_large_file_decide() -> None:
    text = "plain words only\n" * 100_000 + TEXTS[0][1]
    assert decode(text.encode("cp1250")) == text


@pytest.mark.parametrize("declared", ["idna", "punycode", "unicode_escape", "utf-7", "rot13", "hex"])
def test_declared_codecs_that_decode_no_text_are_ignored(declared: str) -> None:
    data = f"<?xml version='1.0' encoding='{declared}'?><a>Größe und Länge der Straße</a>".encode("cp1252")
    assert "Größe und Länge" in decode(data)


def test_declared_latin_is_read_as_browsers_do() -> None:
    assert decode(b"<meta charset=iso-8859-1> 30 \x80 \x96 \x93ok\x94") == "<meta charset=iso-8859-1> 30 € – “ok”"


def test_escape_sequences_of_japanese_mail_are_decoded() -> None:
    assert decode("契約は三年間".encode("iso2022_jp")) == "契約は三年間"
