"""Language codes that a manifest may name.

ISO 639-1 codes, the ISO 639-3 codes that speech and translation corpora use for languages without
a two-letter code, and ``qaa`` to ``qtz``, which ISO 639 leaves to private use (an unlisted
language takes one of these). Script and region may follow: ``zh-TW``, ``sr-Latn``, ``pt-BR``.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from stk.errors import StkError

_TWO_LETTERS = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
    dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia
    id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo
    lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl
    ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk
    tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""

ISO_639_1 = frozenset(_TWO_LETTERS.split())
"""Every two-letter code in force."""

_THREE_LETTERS = """
    abk ace acm ady afb ajp apc arb ars ary arz ast awa ayr azb azj bak bam ban bas bem bho bjn blt
    bug bum byv ceb cgg chv cjk ckb cmn cnh cop crh csb dag dar dav dga dik din diq div djk dsb dtp
    dyu dza dzo ekk enm ewe ewo fil fon fro frr frp fur fuv gaz gez gla got grc gsw guc gug guj gul
    hac hak hat hau haw heb hif hil hmn hne hnj hrv hsb hyw ibo ilo inh ink isl izh jam jbo kab kac
    kam kaa kat kbd kbp kck kea kha khk khm kik kin kir kln kmb kmr knc koi kok kon kpe krc krl ksh
    kum lat lbe lez lfn lij lim lin lit liv lld lmo ltg ltz lua lug luo lus lvs lzz mad mag mai mam
    mar mdf mer mhr min mni mnw mos mrh mri mrj mus mvy mwl mya myv myx nah nan nap naq nde nds nep
    nhe nia nog nov npi nqo nso nus nya nyn ofs ood ory ota pag pam pan pap pbt pcd pcm pdc pes pfl
    pmn pms pnb prs quc quy quz qvi rap rej rhg rif rmy rof rom rop ruf rue rup run sag sah sat scn
    sco sdh sei seh sgs shi shn shs skr sma smj smn smo smn sms sna snd som sot srd srn ssw stq sun
    swh swg syl szl tam taq tat tay tcy tel tet tgk tgl tha tig tir tkl tlh tmz tok tos tpi tsn tso
    tuk tum tvl twi tyv tzl tzm tzo udm uig ukr umb urd uzn vai vec vep vie vls vmw vot vro war wol
    wuu xal xho xmf xog ydd yor yua yue zam zap zea zgh zha zlm zsm zul zza
"""

ISO_639_3 = frozenset(_THREE_LETTERS.split())
"""Three-letter codes accepted as they stand."""

_FORM = re.compile(r"([a-z]{2,3})(-[A-Z][a-z]{3})?(-[A-Z]{2}|-[0-9]{3})?")


@lru_cache(maxsize=1024)
def check_language(code: str) -> str:
    """Return ``code`` if it is a language code this package knows.

    Raises:
        StkError: with the nearest known code.
    """
    match = _FORM.fullmatch(code)
    if match is None:
        raise StkError(
            f"{code!r} is not a language code",
            mend="use ISO 639 codes in lower case such as de or yue, or with region: pt-BR",
        )
    base = match[1]
    if base in ISO_639_1 or base in ISO_639_3 or "qaa" <= base <= "qtz" and len(base) == 3:
        return code
    near = difflib.get_close_matches(base, ISO_639_1 | ISO_639_3, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    raise StkError(
        f"unknown language {code!r}", mend=f"{hint}qaa to qtz are free for unlisted languages"
    )
