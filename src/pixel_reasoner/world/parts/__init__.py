"""PixelWorld family `parts`: photographs of industrial parts with exact masks of their defects.

This family is not in `world.FAMILIES`: it has no questions. Its media are folders in the layout of MVTec AD, for
inspection with golden references.

    parts.jsonl                                annotation of every photograph (`PartRow`)
    thumbnails.npy                             thumbnails in the order of the rows (`world.thumbnails`)
    KIND/train/good/S0001_C1.png               golden references: part 1, camera C1
    KIND/validation/{good,DEFECT}/...          the validation split contains defects
    KIND/validation/ground_truth/DEFECT/S0002_C1_mask.png
    KIND/test/{good,DEFECT}/S0001_C1.png
    KIND/ground_truth/DEFECT/S0002_C1_mask.png
    KIND/unaligned/S0001_C1.png                photographs that cannot be aligned: misplaced and wrong parts

Not covered: parallax of tall parts, glare, JPEG artefacts.
"""

from pixel_reasoner.world.parts.defects import DEFECT_CLASSES
from pixel_reasoner.world.parts.kinds import KINDS
from pixel_reasoner.world.parts.plan import CONDITIONS, PartsParams, plan_parts
from pixel_reasoner.world.parts.rows import PARTS_FILE, DefectRow, PartRow, read_parts
from pixel_reasoner.world.parts.shot import take_photo
from pixel_reasoner.world.parts.write import write_parts

__all__ = [
    "CONDITIONS",
    "DEFECT_CLASSES",
    "KINDS",
    "PARTS_FILE",
    "DefectRow",
    "PartRow",
    "PartsParams",
    "plan_parts",
    "read_parts",
    "take_photo",
    "write_parts",
]
