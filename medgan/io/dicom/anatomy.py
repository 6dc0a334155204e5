"""Body parts as single-frame images name them and as multi-frame images code them (DICOM PS3.16 annex L)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

# Parts of which a body has one: no side is stated.
_UNPAIRED = {
    "ABDOMEN": codes.SCT.Abdomen,
    "ABDOMENPELVIS": codes.SCT.AbdomenAndPelvis,
    "BLADDER": codes.SCT.Bladder,
    "BRAIN": codes.SCT.Brain,
    "CHEST": codes.SCT.Chest,
    "CHESTABDOMEN": codes.SCT.ChestAndAbdomen,
    "CHESTABDPELVIS": codes.SCT.ChestAbdomenAndPelvis,
    "CSPINE": codes.SCT.CervicalSpine,
    "HEAD": codes.SCT.Head,
    "HEADNECK": codes.SCT.HeadAndNeck,
    "HEART": codes.SCT.Heart,
    "LIVER": codes.SCT.Liver,
    "LSPINE": codes.SCT.LumbarSpine,
    "NECK": codes.SCT.Neck,
    "PELVIS": codes.SCT.Pelvis,
    "PROSTATE": codes.SCT.Prostate,
    "SKULL": codes.SCT.Skull,
    "SPINE": codes.SCT.Spine,
    "SSPINE": codes.SCT.Sacrum,
    "THORAX": codes.SCT.Chest,
    "TSPINE": codes.SCT.ThoracicSpine,
    "UTERUS": codes.SCT.Uterus,
    "WHOLEBODY": codes.SCT.EntireBody,
}
_PAIRED = {
    "ANKLE": codes.SCT.AnkleJoint,
    "BREAST": codes.SCT.Breast,
    "ELBOW": codes.SCT.ElbowJoint,
    "EXTREMITY": codes.SCT.Extremity,
    "FOOT": codes.SCT.Foot,
    "HAND": codes.SCT.Hand,
    "HIP": codes.SCT.HipJoint,
    "KNEE": codes.SCT.Knee,
    "SHOULDER": codes.SCT.Shoulder,
    "WRIST": codes.SCT.WristJoint,
}
# The region must be coded even where nobody stated it; this code claims nothing.
_SOME_REGION = codes.SCT.AnatomicalStructure


def region_of(head: Dataset) -> Code:
    """The region of a data set by its AnatomicRegionSequence, else by its BodyPartExamined; "anatomical structure" if
    that is none of those known."""
    for item in head.get("AnatomicRegionSequence") or []:
        if "CodeValue" in item:
            return Code(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
    return {**_UNPAIRED, **_PAIRED}.get(_part(head), _SOME_REGION)


def is_unpaired(head: Dataset) -> bool:
    """Whether the region is known to be a part without sides, so that Laterality has no place (PS3.3 C.7.3.1)."""
    region = region_of(head)
    return any(region == unpaired for unpaired in _UNPAIRED.values())


def _part(head: Dataset) -> str:
    return str(head.get("BodyPartExamined") or "").replace(" ", "").replace("_", "").upper()
