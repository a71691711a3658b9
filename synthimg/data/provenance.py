"""What a synthetic image says about itself: how it was made, and that no camera took it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def encode_png(image: NDArray[np.uint8], row: dict[str, Any], source_type: str) -> bytes:
    """A PNG with its plan row (text chunk `synthimg`, JSON) and IPTC's digital source type (XMP).

    Args:
        image: [H, W, 3].
        source_type: a term of IPTC's vocabulary, such as `trainedAlgorithmicMedia`.
    """
    plain = {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
    info = PngInfo()
    info.add_itxt("synthimg", json.dumps(plain, ensure_ascii=False, default=str))
    info.add_text("Software", "synthimg")
    info.add_itxt("XML:com.adobe.xmp", XMP.format(source_type))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
