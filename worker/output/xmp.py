"""The XMP packet of an image: its digital source type, and the program that wrote it."""

from __future__ import annotations

from protocol.recipes.provenance import digital_source
from protocol.recipes.request_infotext import program_version
from protocol.request.request import GenerationRequest

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    Iptc4xmpExt:DigitalSourceType="{source}"
    xmp:CreatorTool="{tool}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def xmp_packet(request: GenerationRequest) -> str:
    """Return the packet for the images of a request; none of its words are in it."""
    return _PACKET.format(source=digital_source(request), tool=program_version())
