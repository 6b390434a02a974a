"""PDF files as people have them: rotated, encrypted, with forms, comments, headers and unmapped glyphs."""

from __future__ import annotations

import base64
import zlib

import pytest
from office_kit import only_document, pdf, reason_left_out, text_lines

from rlm.documents.convert.dispatch import convert
from rlm.documents.convert.pdf_furniture import join_pages, split_furniture
from rlm.documents.convert.pdf_page import clean

pytest.importorskip("pypdfium2", reason="PDF needs the extra docs")

OWNER_PROTECTED = (
    "c-n<iJ#5oJ6b7+b45$;`u0mlzYJGRUvwbLv)HaDgP$f!eK`NEFoUf@-YDdncv}`aSkPs6>;%A`?%t%OVY#<g`x-e8?VPJ!y>V|lBk~%0uZJ+M^"
    "`MvLZ?>k?iUaroPIoB$DJly?j5rk3Px@{GU$gaz_?jZ_D1KHPhx*FMw(#THSMx~OaqaY2WV+o6KKQf3Q`$`z}&?<7W)U{FafG<yV{!5LFj!X}+"
    "f!vY~Lb(uc0}F=RB@}srrd)NIK;WpXhVI4vL;-KgQU#X5f*_s+luGF{R=}7(8`Hn4qqf;VK8D<|V{`&@M;cw$Dh{%wo=LRav`##Dx%(?L@AmIJ"
    ")?fAy_`%_sz5COr|IF<_pZfg5?*HE2JbB^#P5J5I)Y-QeAN?%PKJ{);|MiC-c>3#;>6!1h?mg?ic{ufL=G@+U@v55^Go&7t#mCB8kUgC>Wna>r"
    "Ep0+2kzI+PrZ8$F`+6A7N4+oyn*El^T1^`!qrNkSyl;2h_iE->(*(oSeBW$Two-@fa;$1y9i>4_@S)ONp+`m$cVz9zuBMSuAd?^up+2%}sK~kR"
    "V}^zAYtE!EwGc!q5%^e2MI9=cU;&I4YboV;k_Ae+0rn_%l^}wGMy-O1FxAm4!6|D4eiIPftd1&&Dal`!K~z!cGVZogV(t-+g><-tS09E_7*oQS"
    "D+F!{%?M%GBcLn@h6ttzs4WjfS3oQGZadNI7Dk?hk1phL?r^k@jxYjSn0<+I%w-c8q0R(GIhnv1rjwWuIc5?Wc3=<E{cFT=dIYn>(G2fu<RSZV"
    "8LbvErSNdq(cm<QOTisK0AF}ZD(3Ri@eym;znAQE4RVL43yy_MOy-JDxK$`rYE|nWV(m8="
)
NEEDS_PASSWORD = (
    "c-n<iJ!lj`6z(imZ6cQHD{^Jrnc12B!Q(K=-J!&A$DN5qj4-=9ds)5g9=mfPQ47IBP(+AW*a(V+osFG^pn{bkSfsKrU=dI(#lqn1-d*<O3U?P~"
    "_M7*<@4atkO3iA02A?*y(wkq;_B9L$V)v?6E`#3W9gzZ2NDK6fTRj2#JeRy1cc4<yMC50IWGrDm?ne?Z=nJ8r!U`C9>gp(Yz*nRi|D;AzL^1_B"
    "kXsaf$mils#e&ppVgi;!GOi|1RN$zrmPq4%;wj#YrLI^86AUa5s8q6Vtbj3nI;MX?L>;*XHd47^SBgZ9T`omcc(I=+r7{tGUE4eSc)xjQ@B8-s"
    "-ILRIPkq|?q94C;<;d&ZGe5q5{(Voo_AzDt>eH#WQ|X^qXK%fi51#-0u=7yAeB#^fn!B*Fcy!BucW3)i`{k4Ao5x<1vSNnR!?M^|S#vxUc~km1"
    "(cKU-^f>6XNYxZZ9ndd@(QK541<>xhGH*3&7?1kS8H&Emao_8?Uv23RXS02|R@=xN)~m7C=!qx`T2u?Q_A)sz3Y#NqM|QO(k9?l^MF_D$Z$KGw"
    "W*fF)2tfi{ILtEyHEo+?mm%9XJ&RG~Gr}nkc;HjdCEO0U<(RHvFpN#5(WpUL4NaKAC}VA@W1<At>!ZrmkQ6^lQ0CYQkfIO)Muta;M=b|iroh5+"
    "ZN@P|1XF4{4ssnqF{a4Eocaz%)Um0DmD<ukbXjQ?-fbo#&=6P}I(Wcj%wQ0}0fyBU<||QwnREif#F)Sc!xI=qWD;|n0+R_3yJ`=z{cFW>b_Mgx"
    "(GIT*us}awg_SZQM19Ou?z>cpbB7tW&yd4h?opFf{vWZLpS@(OC&3)vE_E$<B6C-4%(POe)~IWL0U^dYJ^"
)


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def read(data: bytes) -> str:
    return str(only_document(data, "a.pdf")["text"])


def page(*lines: str) -> str:
    return text_lines([(72, 700 - 20 * at, line) for at, line in enumerate(lines)])


MATRICES = {0: "1 0 0 1 72 {0}", 90: "0 1 -1 0 {1} 100", 180: "-1 0 0 -1 500 {1}", 270: "0 -1 1 0 {2} 700"}


@pytest.mark.parametrize("page_angle", [0, 90, 180, 270])
@pytest.mark.parametrize("text_angle", MATRICES)
def test_rotated_pages_keep_the_order_of_lines(page_angle: int, text_angle: int) -> None:
    lines = ["first line", "second line", "third line"]
    shown = "".join(
        f"{MATRICES[text_angle].format(700 - 20 * at, 100 + 20 * at, 400 - 20 * at)} Tm ({line}) Tj "
        for at, line in enumerate(lines)
    )
    text = read(pdf([f"BT /F1 12 Tf {shown} ET"], entries=f"/Rotate {page_angle}"))
    assert text.splitlines()[:3] == lines


def test_files_with_an_owner_password_are_read() -> None:
    assert "Sealed but open" in read(unpacked(OWNER_PROTECTED))


def test_files_that_need_a_password_are_named() -> None:
    assert reason_left_out(unpacked(NEEDS_PASSWORD), "a.pdf") == "protected with a password"


FIELD = "<< /Type /Annot /Subtype /Widget /Rect [10 10 90 30] {0} >>"
FORM = [
    FIELD.format("/FT /Tx /T (name) /V (Jane Doe)"), FIELD.format("/FT /Btn /T (agree) /V /Yes /AS /Yes"),
    FIELD.format("/FT /Btn /T (spam) /V /Off /AS /Off"),
    FIELD.format("/FT /Ch /Ff 131072 /T (land) /V (Peru) /Opt [(Peru) (Chile)]"),
]  # fmt: skip


def test_form_fields_show_their_values() -> None:
    numbers = " ".join(f"{number} 0 R" for number in range(6, 10))
    text = read(
        pdf([page("Form")], entries=f"/Annots [{numbers}]", catalog=f"/AcroForm << /Fields [{numbers}] >>", extra=FORM)
    )
    for wanted in (
        "[Form field name] Jane Doe",
        "[Form field agree] ☒",
        "[Form field spam] ☐",
        "[Form field land] Peru",
    ):
        assert wanted in text


def test_comments_and_text_boxes_are_read() -> None:
    notes = (
        "<< /Type /Annot /Subtype /Text /Rect [1 1 9 9] /T (Eve) /Contents (Check this clause) >>"
        "<< /Type /Annot /Subtype /FreeText /Rect [1 1 9 9] /Contents (Typed over the page) >>"
        "<< /Type /Annot /Subtype /Highlight /Rect [1 1 9 9] /Contents (Important) >>"
        "<< /Type /Annot /Subtype /Popup /Rect [1 1 9 9] /Contents (Twice) >>"
    )
    text = read(pdf([page("Page")], entries=f"/Annots [{notes}]"))
    for wanted in ("[Comment by Eve] Check this clause", "[Text box] Typed over the page", "[Comment] Important"):
        assert wanted in text
    assert "Twice" not in text


def test_embedded_files_become_documents() -> None:
    stream = "<< /Type /EmbeddedFile /Length 7 >>\nstream\na,b\n1,2\nendstream"
    names = "/Names << /EmbeddedFiles << /Names [(f.csv) << /Type /Filespec /F (f.csv) /EF << /F 6 0 R >> >>] >> >>"
    result = convert(pdf([page("Invoice")], catalog=names, extra=[stream]), "a.pdf")
    assert [item["path"] for item in result["documents"]] == ["a.pdf", "a.pdf!/f.csv"]
    assert "[Embedded files] f.csv" in result["documents"][0]["text"]


def test_table_rows_stay_on_their_lines() -> None:
    cells = [(x, 700 - 20 * row, f"r{row}c{column}") for row in range(6) for column, x in enumerate((72, 200, 330))]
    lines = read(pdf([text_lines(cells)])).splitlines()
    assert lines[:2] == ["r0c0 r0c1 r0c2", "r1c0 r1c1 r1c2"]


def test_words_hyphenated_across_pages_are_joined() -> None:
    document = only_document(pdf([page("Both parties sign the agree-"), page("ment in March.")]), "a.pdf")
    assert "sign the agreement\n" in document["text"]
    assert document["text"][document["places"][1][0] :].strip() == "in March."
    assert join_pages(["ends with 1990-", "Next"]) == ["ends with 1990-", "Next"]


def test_repeated_lines_are_shown_with_their_numbers() -> None:
    pages = [
        ["Order 4711, version 2.1", f"text {'b' * n}", "more", f"and so on {'abcde'[n - 1]}", f"Page {n} of 5"]
        for n in range(1, 6)
    ]
    shown, kept = split_furniture(pages)
    assert shown == ["Order 4711, version 2.1", "Page # of 5"]
    assert kept[2] == ["text bbb", "more", "and so on c"]


def test_numbers_that_do_not_count_pages_are_content() -> None:
    pages = [
        [f"Account {number}", "x" * at, "a", "b" * at, "c" * at] for at, number in enumerate((5531, 9920, 1188, 7413))
    ]
    assert split_furniture(pages)[1] == pages


def test_glyphs_without_a_character_are_marked() -> None:
    assert clean("di\ufffdcult e↵orts in an o\ufffdce") == "difficult efforts in an office"
    assert clean("\ufffd0.93 is a\ufffdb") == "\ufffd0.93 is a\ufffdb"
