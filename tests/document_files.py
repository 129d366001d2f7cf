"""Documents that the libraries of the project cannot write: HEIC pictures, PDF files of any number of pages, with a password."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

from text_documents import write_objects

# 96 x 64 pixels, white; the upper left quarter is red, the lower right one blue. Made with pillow-heif 1.8.1.
_HEIC = (
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<00042ZDn*}000000000XXk=`10000000000aA{+700000000000000000000B"
    "57=IV*mgE07O6l0RRC200001dH?|c00000007tk001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t00"
    "0010002iX>f9I0002DX>en20001ZXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=Z"
    "ZRVE_RDD?$MQ18@KU0|1Z!00RI30{|YNFo6Y@>PacCZUPz%2mk;B0LTCU0{{p>VgLaE2SfqEa<C#m0000JV{dG7ZewhC0096"
    "E00w{n000zeb8uw<00000003YB002M$000nhX?SS>000032nYxO000+haBX1#00000000310R({p0|Wp70N`z8VRQfh0MsY}"
    "uL<BGIdxzE{DMFK{9-pD{0YrT1f=u#y{0?kQ$PN;5Y{Y~!OmbqKQBd*>dkN<oZ`NAo_S8Xg^yVVK6@fiBSlw3o@~(IcN*&iA"
    "6@*&eA{M_qzO({g2I@^Xj;^OXr=@=7o^`(c&ED1Irr)tpEk2E?xs#h&sjJA_aYjYe0!xW{~mu||Gzr-{Mlaozn}kd(T{9;Nx"
    "q$>FJa#492a7Xv;Iy0F5fgBV>eLoc$B<XtWM9fJl9~A9-MJuqd%RG7N*rruZz+x1dqp5A`k"
)
# The same with EXIF orientation 6: 64 x 96 upright, the upper right quarter is red, the lower left one blue.
_TURNED_HEIC = (
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004@ZDn*}000000000XXk=`10000000000aA{+700000000000000000000G"
    "-+&aV*mgE07O6l0ssL300001#Q*^S00000007tk0ssI200Nx=0RR9100000Bme*aIB98aW&i*H00062000$fZf0cy000000R"
    "RAKc4ILB0000LX>Mj^0ssI300IC2MR;ju000004sdC7Z2$lO00031007`=aB^?}006*gaAR)(004Msc4I>U18@KU0FVFx000"
    "0U@BsY%`1k+-4+CHT0RR|40Sp2E{{wIU00RJ!0009300RIXx&lC90096iLID8-Z~y=U0FVFx0{{R603M()fd!W8Nhz*w0vZe"
    "m00093$N&HX00=;000968L;=Baup&SJ000wXZ)|dIV{CW;0RRmE27mwn02FC+aAg1h000000AK(B06+i$01$9#cxeCt0009B"
    "2nYZG010VwZ*&6y000<iaBX1#00000000310R@2q0|bQt000_ka%E-!00000000hSWOHKx0ssL30RR921Z`wtbN~PV)F=V33"
    "E&|)bzlGdf<OQKVmBfD3C&3ar1ST^raR+PKmN85)-0C6&R|17FGZ2+&2S)`;=XpCc}}{8k68vjdm>OHMOQ<fY|!9$8tVifUH"
    "r&=+h&lY2~Jgl!kEQqTGW7OrUW+^q~B6_r@GKN_v#y;HnT78rcOuCSvUUoA{v-{d!;S^9)Dl|zdHB)*<Sp=pZ{{vk8FBLzMZ"
    "8nVczK+7h;RE{!RZb-!vX$H&F3-l)P80PS3ME*I<<%oN-~JKb?;jrqxZai_$FwkH=IZ5C8xG21R&jW&i+9O#mtY000O80Ra*"
    "K0{{R30RRR70000000"
)
# One blank page, AES-256, user password "secret". Made with pikepdf.
_LOCKED_PDF = (
    "c-n<iy>1*g5N;g6S>z2;n9Vf-lpX$)z(Izky910!kRe4%VW{BGP`==_E9|WV*=-uTv>zdDULakXAP<m-NZ~R~x*)S_{am2J%"
    "UzHh&dfL8x5LSc*<y=-Ypcm`|NQ)K#Tl?R{#Z??te#)@*sParvu4Bg*=%P%E_T8iPp}(KSWTfDo_lzOE9Tht_VCs(!Wpiapq"
    "z)S{{Hm^vU)f4Vbz||afMADpu`5`ZhP7EjI;W?WnQzFOpc+ax51zC-G|Emg*H?~zh>$a+&<=I*lDjR3(yb%jMH~IWa-H9wyZ"
    ";3x0hYQk>pVHJ=6x0+CbXF=B$6kq+s=8x$3c_c@=t`VQTXjwC+0$=hd%Y;D^cXyGL6;{QdNsCm(<L<FBtze}B99>CfYjkH7r"
    "t$@?Msjq44J-Xydb)jsO;&Fa}@|7w0UlwQx;bZ~*q;IvN%^P>~FS=WvHx78i>p~<1kcP>I3Rv)mb3Q0o1=!DEd3FD-*Ay}`a"
    "71mpcR)=Im6v9K~F^lXIO;TH9yw4%I2*oLIB}EfJMG47p?t^kdAt<WhfO^I|EsRJBlQua^?^QP5MQy-D7fbX8ol~ft3>KWlp"
    "o1(*Ct)3M19s>nw#7j>T3~lhzp50Cf=A;L6saNbLXky*#B5Yl1M(p=1NHO8t%fvp_nTuj4Z5hPMUb%wPE09@R6I&u09Bx@Xn"
    "Bk(g3q!DuaW3yUldv(6*Rb{p=1b2d*BItu{tU;XI%y&o{Bgo`a*(}LQ1KXQP$c*+N6k{b4QvOG)6*<7Kpl+F&fgP2(TWL;zf"
    "u^X-=5lXvXUfO9jkSaQ85ywbZPzI~%878c&)#8<+6V=KKR2QGH;O-rd{!E-Y8nSwmMIw(W3Z$Gdd2e1n7P&u8rA)M%TmQwDP"
    "}R(L5KY8uJsl!7T~`|}=jS?5jaUSIS~j|k)43SB=c;FYT;llj4-`VaOWO;!"
)


def write_heic(path: Path, *, turned: bool = False) -> Path:
    """Write a HEIC picture."""
    path.write_bytes(base64.b85decode(_TURNED_HEIC if turned else _HEIC))
    return path


def write_locked_pdf(path: Path) -> Path:
    """Write a PDF with a password."""
    path.write_bytes(zlib.decompress(base64.b85decode(_LOCKED_PDF)))
    return path


def write_pdf(
    path: Path, num_pages: int = 1, size: tuple[int, int] = (200, 100), extra: str = ""
) -> Path:
    """Write a PDF whose pages have a red left half. `extra` is added to each page, for example `/Rotate 90`."""
    drawing = f"1 0 0 rg 0 0 {size[0] // 2} {size[1]} re f"
    kids = " ".join(f"{4 + n} 0 R" for n in range(num_pages))
    page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size[0]} {size[1]}]/Contents 3 0 R{extra}>>"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {num_pages}/Kids[{kids}]>>",
        f"<</Length {len(drawing)}>>stream\n{drawing}\nendstream",
        *[page] * num_pages,
    ]
    return write_objects(path, objects)
